/* cmd_worker.c - `cograd worker`: computes for a server, until that ends the run. */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "complain.h"
#include "experiment.h"

typedef struct session {
    const cog_options *flags;
    char spec[512];      /* of the transport */
    cog_problem problem; /* kept while the server names the same data */
    char data[512];      /* its spec; "" without one */
} session;

static int make_spec(session *s) {
    const cog_options *o = s->flags;
    if (o->connect == NULL)
        return cog_complain(COG_EXIT_USAGE,
                            "--connect ADDRESS says where the server is; see --help");
    const int length = snprintf(
        s->spec, sizeof(s->spec), "zmq:connect=%s,rank=%lld,patience=%g,silence=%g%s%s%s%s",
        o->connect, (long long)o->rank, o->patience, o->silence, o->token != NULL ? ",token=" : "",
        o->token != NULL ? o->token : "", o->curve_key != NULL ? ",curve=" : "",
        o->curve_key != NULL ? o->curve_key : "");
    if (length < (int)sizeof(s->spec)) return 0;
    return cog_complain(COG_EXIT_USAGE, "the address and the paths of token and key are too long");
}

static int open_data(session *s, const cog_options *options) {
    if (strcmp(s->data, options->data) == 0) return 0;
    cog_problem_close(&s->problem);
    s->data[0] = '\0';
    const int status = cog_problem_open(options, &s->problem);
    if (status == 0) snprintf(s->data, sizeof(s->data), "%s", options->data);
    return status;
}

/* *again: the server was lost, and another one may come. */
static int serve(session *s, cog_link *link, bool *again) {
    cog_options options = *s->flags;
    options.workers = cog_link_n_workers(link);
    int exit_status = cog_settings_read(cog_link_settings(link), &options);
    if (exit_status == 0) exit_status = open_data(s, &options);
    if (exit_status != 0) return exit_status;
    const cog_status status = cog_experiment_work(&options, &s->problem, link);
    *again = status == COG_ERR_TRANSPORT;
    char about[32];
    snprintf(about, sizeof(about), "worker %d", (int)cog_link_worker(link));
    return status == COG_OK || *again ? 0 : cog_complain_status(status, about);
}

static int serve_all(session *s) {
    for (int64_t n_done = 0; s->flags->jobs == 0 || n_done < s->flags->jobs;) {
        cog_link *link = NULL;
        bool again = false;
        const cog_status status = cog_link_open(s->spec, &link);
        if (status != COG_OK) return cog_complain_status(status, NULL);
        const int exit_status = serve(s, link, &again);
        cog_link_close(link);
        if (exit_status != 0) return exit_status;
        n_done += !again;
    }
    return 0;
}

int cog_cmd_worker(int argc, char **argv) {
    cog_options flags;
    session s = {.flags = &flags};
    int status = cog_options_parse(COG_FOR_WORKER, argc, argv, &flags);
    if (status == 0) status = make_spec(&s);
    if (status == 0) status = serve_all(&s);
    cog_problem_close(&s.problem);
    return status;
}
