/* cmd_compare.c - `cograd compare`: several schemes on one problem; the first is the reference. */
#include <jansson.h>
#include <string.h>

#include "commands.h"
#include "complain.h"
#include "suite.h"

static json_t *make_record(const cog_suite *s) {
    json_t *list = json_array();
    for (int i = 0; i < s->n_run; i++) {
        json_t *record = cog_record_make(&s->experiment[i]);
        if (record != NULL && json_array_append_new(list, record) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

/* Rows of the table and curves of the plot are told apart by their names. */
static int check_name(const cog_suite *s, int i) {
    for (int j = 0; j < i; j++)
        if (strcmp(s->scheme[j].name, s->scheme[i].name) == 0)
            return cog_complain(
                COG_EXIT_USAGE,
                "two schemes are named '%s'; give one another name=", s->scheme[i].name);
    return 0;
}

static int add_schemes(cog_suite *s) {
    int status = 0;
    for (int i = 0; i < s->shared.n_schemes && status == 0; i++) {
        status = cog_scheme_parse(&s->shared, s->shared.schemes[i], &s->scheme[i]);
        if (status == 0 && s->scheme[i].name == NULL) status = cog_scheme_name(&s->scheme[i]);
        if (status == 0) status = check_name(s, i);
        s->n++;
    }
    return status;
}

int cog_cmd_compare(int argc, char **argv) {
    static cog_suite suite; /* too large for a stack, one a process */
    suite = (cog_suite){.reference = 0, .make_record = make_record};
    int status = cog_options_parse(COG_FOR_COMPARE, argc, argv, &suite.shared);
    if (status == 0 && suite.shared.n_schemes == 0)
        status = cog_complain(COG_EXIT_USAGE, "no --scheme was given; see --help");
    if (status == 0) status = add_schemes(&suite);
    return status != 0 ? status : cog_suite_run(&suite);
}
