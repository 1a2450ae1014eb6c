/* libsvm.c - sparse text of LIBSVM (Chang and Lin), plain or gzip, held dense in memory.
 *
 *     label index:value index:value ...     # indices ascend from 1; what is absent is 0
 *
 *   libsvm:FILE      the file
 *   test=FILE        testing part; without it every 10th row is set aside for testing
 *   labels           auto (default): classes when the labels of FILE are 2 to 20 different whole
 *                    numbers, else real targets; or say classes (up to 65536) or targets
 *
 * Classes are numbered in the order of their labels: -1 and +1 become 0 and 1. A file is read
 * twice: once to check and count, once to fill in the numbers. */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "dataset.h"
#include "gzip.h"

enum {
    MAX_INDEX = 1 << 24,
    MAX_CLASSES = 65536,
    MAX_AUTO_CLASSES = 20, /* more whole numbers than these look like counts, years or ages */
    SET_ASIDE = 10,
    MAX_QUOTE = 24 /* characters of a file in an error sentence */
};

typedef struct table {
    const char *path;
    char *text; /* ends with 0 */
    int64_t n_rows, n_features;
    double *labels; /* [n_rows] */
} table;

/* Where a number is to go: rows of one part, or nowhere in the first reading. */
typedef float *(*row_fn)(void *user, int64_t row);

typedef struct cursor {
    table *table;
    char *at;
    int64_t line;
} cursor;

#define FAIL_AT(c, format, ...)                                                            \
    COG_FAIL(COG_ERR_FORMAT, "%s, line %" PRId64 ": " format, (c)->table->path, (c)->line, \
             __VA_ARGS__)

static int quote_length(const char *at) {
    const size_t length = strcspn(at, " \t\r\n");
    return length < MAX_QUOTE ? (int)length : MAX_QUOTE;
}

/* strtod and strtoll would skip any white space, ends of lines too. */
static bool at_space(const cursor *c) { return isspace((unsigned char)*c->at) != 0; }

static void skip_blanks(cursor *c) { c->at += strspn(c->at, " \t\r"); }

static bool at_line_end(const cursor *c) {
    return *c->at == '\n' || *c->at == '\0' || *c->at == '#';
}

/* A finite number that fits a float and ends where a word ends. */
static cog_status take_number(cursor *c, const char *what, double *out) {
    char *end = c->at;
    const double value = at_space(c) ? 0 : strtod(c->at, &end);
    if (end == c->at || strchr(" \t\r\n#", *end) == NULL)
        FAIL_AT(c, "%s must be a number, is '%.*s'", what, quote_length(c->at), c->at);
    if (!isfinite((float)value))
        FAIL_AT(c, "%s '%.*s' is not a finite number", what, quote_length(c->at), c->at);
    c->at = end;
    *out = value;
    return COG_OK;
}

static cog_status take_entry(cursor *c, int64_t *last, float *row) {
    char *end = c->at;
    const long long index = at_space(c) ? 0 : strtoll(c->at, &end, 10);
    if (end == c->at || *end != ':')
        FAIL_AT(c, "expected index:value at '%.*s'", quote_length(c->at), c->at);
    if (index < 1 || index > MAX_INDEX) FAIL_AT(c, "index %lld is outside 1..%d", index, MAX_INDEX);
    if (index <= *last)
        FAIL_AT(c, "index %lld follows %" PRId64 ": they must ascend", index, *last);
    c->at = end + 1;
    double value;
    COG_TRY(take_number(c, "a value", &value));
    if (row != NULL) row[index - 1] = (float)value;
    *last = index;
    return COG_OK;
}

/* One row: its label, and its entries into `row` unless that is NULL. */
static cog_status take_row(cursor *c, double *label, float *row) {
    COG_TRY(take_number(c, "the label", label));
    int64_t last = 0;
    for (skip_blanks(c); !at_line_end(c); skip_blanks(c)) COG_TRY(take_entry(c, &last, row));
    if (c->table->n_features < last) c->table->n_features = last;
    return COG_OK;
}

/* To the next line that holds a row; false at the end. */
static bool next_row(cursor *c) {
    for (;;) {
        skip_blanks(c);
        if (!at_line_end(c)) return true;
        c->at += strcspn(c->at, "\n");
        if (*c->at == '\0') return false;
        c->at++;
        c->line++;
    }
}

/* First reading. */
static cog_status count(table *t) {
    cursor c = {t, t->text, 1};
    int64_t capacity = 0;
    for (t->n_rows = 0; next_row(&c); t->n_rows++) {
        if (t->n_rows == capacity) {
            capacity = 2 * capacity + 1024;
            double *grown = realloc(t->labels, (size_t)capacity * sizeof(*grown));
            COG_CHECK(grown != NULL, COG_ERR_MEMORY, "%s: no memory for labels", t->path);
            t->labels = grown;
        }
        COG_TRY(take_row(&c, &t->labels[t->n_rows], NULL));
    }
    COG_CHECK(t->n_rows > 0, COG_ERR_FORMAT, "%s holds no examples", t->path);
    COG_CHECK(t->n_features > 0, COG_ERR_FORMAT, "%s holds no features", t->path);
    return COG_OK;
}

/* Second reading: row r goes where `place` says. */
static cog_status fill(table *t, row_fn place, void *user) {
    cursor c = {t, t->text, 1};
    double label;
    for (int64_t r = 0; next_row(&c); r++) COG_TRY(take_row(&c, &label, place(user, r)));
    return COG_OK;
}

static cog_status load_text(cog_gzip *file, table *t) {
    size_t capacity = 0, size = 0, n_read = 0;
    do {
        if (size + 1 >= capacity) {
            capacity = 2 * capacity + (1 << 16);
            char *grown = realloc(t->text, capacity);
            COG_CHECK(grown != NULL, COG_ERR_MEMORY, "%s: no memory for %zu bytes", t->path,
                      capacity);
            t->text = grown;
        }
        COG_TRY(cog_gzip_read(file, t->text + size, capacity - 1 - size, &n_read));
        size += n_read;
    } while (n_read > 0);
    t->text[size] = '\0';
    COG_CHECK(strlen(t->text) == size, COG_ERR_FORMAT, "%s is not text: it holds a zero byte",
              t->path);
    return COG_OK;
}

static cog_status load(const char *path, table *t) {
    *t = (table){.path = path};
    cog_gzip file;
    COG_TRY(cog_gzip_open(path, &file));
    cog_status status = load_text(&file, t);
    cog_gzip_close(&file);
    return status == COG_OK ? count(t) : status;
}

static void unload(table *t) {
    free(t->text);
    free(t->labels);
}

/* ---------------------------------------------------------------------------------------------- */

/* The labels that occur, ascending. */
typedef struct classes {
    double label[MAX_CLASSES];
    int n; /* 0: the labels are targets */
} classes;

/* How many classes have a smaller label. */
static int rank_of(const classes *c, double label) {
    int low = 0, high = c->n;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (c->label[middle] < label)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* False when the labels are not whole numbers, or not 2 to `most` different ones. */
static bool collect(const table *t, int most, classes *out) {
    out->n = 0;
    for (int64_t r = 0; r < t->n_rows; r++) {
        const double label = t->labels[r];
        const int at = rank_of(out, label);
        if (label != floor(label)) return false;
        if (at < out->n && out->label[at] == label) continue;
        if (out->n == most) return false;
        memmove(&out->label[at + 1], &out->label[at], (size_t)(out->n - at) * sizeof(label));
        out->label[at] = label;
        out->n++;
    }
    return out->n >= 2;
}

enum { LABELS_AUTO, LABELS_CLASSES, LABELS_TARGETS };

static cog_status choose_classes(const table *t, int choice, classes *out) {
    const int most = choice == LABELS_AUTO ? MAX_AUTO_CLASSES : MAX_CLASSES;
    if (choice != LABELS_TARGETS && collect(t, most, out)) return COG_OK;
    COG_CHECK(choice != LABELS_CLASSES, COG_ERR_FORMAT,
              "the labels of %s are not 2 to %d different whole numbers", t->path, MAX_CLASSES);
    out->n = 0;
    return COG_OK;
}

static cog_status label_row(const table *t, const classes *c, int64_t row, float *y) {
    const double label = t->labels[row];
    const int class = rank_of(c, label);
    *y = c->n > 0 ? (float)class : (float)label;
    COG_CHECK(c->n == 0 || (class < c->n && c->label[class] == label), COG_ERR_FORMAT,
              "%s: label %g does not occur in the training file", t->path, label);
    return COG_OK;
}

/* ---------------------------------------------------------------------------------------------- */

static float *place_whole(void *user, int64_t row) {
    cog_dataset *d = user;
    return d->x + row * d->n_features;
}

/* All rows of a file as one part. */
static cog_status make_whole(table *t, const classes *c, int64_t n_features, cog_dataset **out) {
    COG_TRY(cog_dataset_new(t->path, t->n_rows, n_features, c->n, out));
    for (int64_t r = 0; r < t->n_rows; r++) COG_TRY(label_row(t, c, r, &(*out)->y[r]));
    return fill(t, place_whole, *out);
}

/* Part of a row when every 10th is set aside, and its number there. */
static int split(int64_t row, int64_t *number) {
    const bool is_test = row % SET_ASIDE == SET_ASIDE - 1;
    *number = is_test ? row / SET_ASIDE : row - row / SET_ASIDE;
    return is_test;
}

static float *place_split(void *user, int64_t row) {
    cog_dataset **parts = user;
    int64_t number;
    cog_dataset *d = parts[split(row, &number)];
    return d->x + number * d->n_features;
}

static cog_status make_split(table *t, const classes *c, cog_dataset **train, cog_dataset **test) {
    const int64_t n_test = t->n_rows / SET_ASIDE;
    COG_CHECK(n_test > 0, COG_ERR_FORMAT,
              "%s holds %" PRId64 " rows, too few to set every %dth aside for testing; give test=",
              t->path, t->n_rows, SET_ASIDE);
    COG_TRY(cog_dataset_new(t->path, t->n_rows - n_test, t->n_features, c->n, train));
    COG_TRY(cog_dataset_new(t->path, n_test, t->n_features, c->n, test));
    cog_dataset *parts[] = {*train, *test};
    for (int64_t r = 0; r < t->n_rows; r++) {
        int64_t number;
        cog_dataset *d = parts[split(r, &number)];
        COG_TRY(label_row(t, c, r, &d->y[number]));
    }
    return fill(t, place_split, parts);
}

static cog_status make_parts(table *t, table *other, int choice, cog_dataset **train,
                             cog_dataset **test) {
    classes *c = malloc(sizeof(*c));
    COG_CHECK(c != NULL, COG_ERR_MEMORY, "no memory for classes");
    cog_status status = choose_classes(t, choice, c);
    if (status == COG_OK && other == NULL) status = make_split(t, c, train, test);
    if (status == COG_OK && other != NULL) {
        const int64_t n = t->n_features > other->n_features ? t->n_features : other->n_features;
        status = make_whole(t, c, n, train);
        if (status == COG_OK) status = make_whole(other, c, n, test);
    }
    free(c);
    return status;
}

static cog_status open_libsvm(cog_spec *spec, cog_dataset **train, cog_dataset **test) {
    static const char *const label_names[] = {"auto", "classes", "targets", NULL};
    const char *path = spec->argument, *test_path;
    int choice;
    COG_CHECK(path != NULL, COG_ERR_SPEC, "'libsvm' needs a file, as libsvm:FILE");
    spec->argument = NULL;
    COG_TRY(cog_spec_text(spec, "test", NULL, &test_path));
    COG_TRY(cog_spec_choice(spec, "labels", label_names, &choice));
    COG_TRY(cog_spec_finish(spec));
    table files[2] = {{.path = path}, {.path = test_path}};
    cog_status status = load(path, &files[0]);
    if (status == COG_OK && test_path != NULL) status = load(test_path, &files[1]);
    if (status == COG_OK)
        status = make_parts(&files[0], test_path != NULL ? &files[1] : NULL, choice, train, test);
    unload(&files[0]);
    unload(&files[1]);
    return status;
}

const cog_dataset_ops cog_dataset_libsvm = {
    .name = "libsvm",
    .summary = "a file in the sparse text format of LIBSVM",
    .open = open_libsvm,
};
