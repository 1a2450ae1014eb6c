/* test_libsvm.c - sparse text is read as it was written, and refused when damaged. */
#include "data_files.h"

TestSuite(libsvm, .init = make_folder, .fini = remove_folder);

static char *libsvm_spec(const char *text, const char *options) {
    static char spec[400];
    write_file("data.txt", text, strlen(text), false);
    snprintf(spec, sizeof(spec), "libsvm:%s%s", path_of("data.txt"), options);
    return spec;
}

static char *libsvm_pair(const char *text, const char *other, const char *more) {
    char options[300];
    write_file("test.txt", other, strlen(other), false);
    snprintf(options, sizeof(options), ",test=%s%s", path_of("test.txt"), more);
    return libsvm_spec(text, options);
}

Test(libsvm, libsvm_numbers_land_where_their_indices_say) {
    cog_dataset *train, *test;
    const char *spec = libsvm_pair("# a comment\n+1 1:0.5 3:-2e1 # and another\n\n-1\t2:7\r\n-1\n",
                                   "-1 4:1\n+1 1:3", "");
    cr_assert_eq(cog_dataset_open(spec, &train, &test), COG_OK, "%s", cog_last_error());
    const float x[] = {0.5f, 0, -20, 0, 0, 7, 0, 0, 0, 0, 0, 0}, y[] = {1, 0, 0};
    const float test_x[] = {0, 0, 0, 1, 3, 0, 0, 0}, test_y[] = {0, 1};
    cr_assert(train->n_rows == 3 && train->n_features == 4 && train->n_classes == 2);
    cr_assert(test->n_rows == 2 && test->n_features == 4 && test->n_classes == 2);
    cr_assert_eq(memcmp(train->x, x, sizeof(x)), 0);
    cr_assert_eq(memcmp(train->y, y, sizeof(y)), 0);
    cr_assert_eq(memcmp(test->x, test_x, sizeof(test_x)), 0);
    cr_assert_eq(memcmp(test->y, test_y, sizeof(test_y)), 0);
    close_both(train, test);
}

Test(libsvm, every_tenth_libsvm_row_is_set_aside) {
    char text[2000] = "";
    for (int r = 0; r < 25; r++) sprintf(text + strlen(text), "%d.5 1:%d\n", r, r);
    cog_dataset *train, *test;
    cr_assert_eq(cog_dataset_open(libsvm_spec(text, ""), &train, &test), COG_OK, "%s",
                 cog_last_error());
    cr_assert(train->n_rows == 23 && test->n_rows == 2 && train->n_classes == 0);
    int t = 0;
    for (int r = 0; r < 25; r++) {
        const cog_dataset *d = r % 10 == 9 ? test : train;
        const int at = r % 10 == 9 ? r / 10 : t++;
        cr_assert(d->x[at] == (float)r && d->y[at] == (float)r + 0.5f, "row %d", r);
    }
    close_both(train, test);
}

Test(libsvm, libsvm_labels_are_classes_when_they_are_few_whole_numbers) {
    static const struct {
        const char *text, *options;
        int n_classes;
        float second; /* label of the second row */
    } cases[] = {
        {"3 1:1\n8 1:2\n3 1:3\n", "", 2, 1},
        {"2 1:1\n1 1:2\n0 1:3\n", "", 3, 1},
        {"3 1:1\n8 1:2\n3 1:3\n", ",labels=targets", 0, 8},
        {"3 1:1\n8.5 1:2\n3 1:3\n", "", 0, 8.5f},
        {"3 1:1\n3 1:2\n3 1:3\n", "", 0, 3}, /* one value tells nothing apart */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        cog_dataset *train, *test;
        const char *spec = libsvm_pair(cases[i].text, "3 1:1", cases[i].options);
        if (i == 1) spec = libsvm_pair(cases[i].text, "2 1:1", cases[i].options);
        cr_assert_eq(cog_dataset_open(spec, &train, &test), COG_OK, "%s", cog_last_error());
        cr_assert_eq(train->n_classes, cases[i].n_classes, "case %zu", i);
        cr_assert_eq(train->y[1], cases[i].second, "case %zu", i);
        close_both(train, test);
    }
    char text[2000] = ""; /* 30 whole numbers: targets, unless told */
    for (int r = 0; r < 30; r++) sprintf(text + strlen(text), "%d 1:1\n", r);
    for (int told = 0; told < 2; told++) {
        cog_dataset *train, *test;
        const char *spec = libsvm_pair(text, "3 1:1", told ? ",labels=classes" : "");
        cr_assert_eq(cog_dataset_open(spec, &train, &test), COG_OK, "%s", cog_last_error());
        cr_assert_eq(train->n_classes, told ? 30 : 0);
        close_both(train, test);
    }
}

Test(libsvm, damaged_libsvm_files_are_refused_by_name_and_line) {
    static const struct {
        const char *text, *word;
    } cases[] = {
        {"", "empty"},
        {"\n# nothing\n", "no examples"},
        {"1\n2\n", "no features"},
        {"1 1:1\nx 1:1\n", "line 2: the label must be a number, is 'x'"},
        {"1 1:1\n1,2 1:1\n", "line 2: the label must be a number, is '1,2'"},
        {"1 1:1\n\n1 1:nan\n", "line 3: a value 'nan' is not a finite number"},
        {"1 1:inf\n", "line 1: a value 'inf' is not a finite number"},
        {"1 1:-1e39\n", "line 1: a value '-1e39' is not a finite number"},
        {"nan 1:1\n", "line 1: the label 'nan' is not a finite number"},
        {"1 0:1\n", "index 0 is outside 1..16777216"},
        {"1 -1:1\n", "index -1 is outside"},
        {"1 99999999999999999999:1\n", "outside 1..16777216"},
        {"1 2:1 2:1\n", "index 2 follows 2"},
        {"1 3:1 2:1\n", "index 2 follows 3"},
        {"1 1\n", "expected index:value at '1'"},
        {"1 qid:3 1:1\n", "expected index:value at 'qid:3'"},
        {"1 1:\n2 1:1\n", "line 1: a value must be a number, is ''"},
        {"1 1: 2\n", "line 1: a value must be a number"},
        {"1 1:2x\n", "line 1: a value must be a number, is '2x'"},
        {"1 \v\n2:1\n2 1:1\n", "line 1: expected index:value"}, /* white space that C knows */
        {"1 1:\f\n2\n2 1:1\n", "line 1: a value must be a number"},
        {"\v\n1 1:1\n", "line 1: the label must be a number"},
        {"1 1:1\n2 1:1\n", "2 rows, too few"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        check_refused(cases[i].text, libsvm_spec(cases[i].text, ""), COG_ERR_FORMAT, 2,
                      path_of("data.txt"), cases[i].word);
    check_refused("foreign label", libsvm_pair("1 1:1\n2 1:1\n", "3 1:1\n", ""), COG_ERR_FORMAT, 2,
                  path_of("test.txt"), "label 3 does not occur");
    check_refused("fractions as classes",
                  libsvm_pair("1.5 1:1\n2 1:1\n", "3 1:1\n", ",labels=classes"), COG_ERR_FORMAT, 1,
                  path_of("data.txt"));
    write_file("data.txt", "1 1:1\n\0002 1:1\n", 13, false);
    char spec[300];
    snprintf(spec, sizeof(spec), "libsvm:%s", path_of("data.txt"));
    check_refused("zero byte", spec, COG_ERR_FORMAT, 1, "zero byte");
    check_refused("no file", "libsvm:/nowhere/at-all", COG_ERR_IO, 1, "/nowhere/at-all");
    check_refused("a folder", "libsvm:/tmp", COG_ERR_IO, 1, "/tmp");
    check_refused("nothing", "libsvm", COG_ERR_SPEC, 1, "libsvm:FILE");
}

/* 2000 rows that each name the last feature of 16 million would take 134 GB. */
Test(libsvm, sizes_are_bounded_before_anything_is_allocated) {
    char *text = malloc(2000 * 16 + 1);
    text[0] = '\0';
    for (int r = 0, at = 0; r < 2000; r++) at += sprintf(text + at, "%d 16777216:1\n", r % 2);
    check_refused("dense giant", libsvm_spec(text, ""), COG_ERR_FORMAT, 2, path_of("data.txt"),
                  "more than a data set may hold");
    free(text);
}
