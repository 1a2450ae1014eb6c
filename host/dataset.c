/* dataset.c - finds a data set's source by its spec; memory of data sets. */
#include "dataset.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"
#include "registry.h"

/* Numbers of one part: 16 GiB. What a damaged or hostile file may make us ask for. */
static const int64_t MAX_NUMBERS = (int64_t)1 << 32;

cog_status cog_dataset_new(const char *source, int64_t n_rows, int64_t n_features,
                           int32_t n_classes, cog_dataset **out) {
    COG_CHECK(n_rows >= 1 && n_features >= 1, COG_ERR_FORMAT, "%s holds no examples", source);
    COG_CHECK(n_rows <= MAX_NUMBERS && n_features <= MAX_NUMBERS / n_rows, COG_ERR_FORMAT,
              "%s: %" PRId64 " rows of %" PRId64
              " features are more than a data set may hold (%" PRId64 " numbers)",
              source, n_rows, n_features, MAX_NUMBERS);
    cog_dataset *d = calloc(1, sizeof(*d));
    COG_CHECK(d != NULL, COG_ERR_MEMORY, "no memory for a data set");
    *d = (cog_dataset){n_rows, n_features, n_classes, NULL, NULL};
    d->x = calloc((size_t)(n_rows * n_features), sizeof(*d->x));
    d->y = calloc((size_t)n_rows, sizeof(*d->y));
    if (d->x == NULL || d->y == NULL) {
        cog_dataset_close(d);
        COG_FAIL(COG_ERR_MEMORY, "%s: no memory for %" PRId64 " rows of %" PRId64 " features",
                 source, n_rows, n_features);
    }
    *out = d;
    return COG_OK;
}

void cog_dataset_close(cog_dataset *dataset) {
    if (dataset == NULL) return;
    free(dataset->x);
    free(dataset->y);
    free(dataset);
}

/* A folder is meant when there is one, or when there is a slash and no source's name before it. */
static bool is_folder(const char *text) {
    struct stat info;
    if (stat(text, &info) == 0 && S_ISDIR(info.st_mode)) return true;
    const size_t name_length = strcspn(text, ":/");
    return text[name_length] == '/';
}

static bool is_source(const char *name) {
    for (size_t i = 0; cog_datasets[i] != NULL; i++)
        if (strcmp(cog_datasets[i]->name, name) == 0) return true;
    return false;
}

static cog_status open_parts(const char *text, cog_dataset **train, cog_dataset **test) {
    COG_CHECK(text != NULL, COG_ERR_ARGUMENT, "no data set is named");
    if (!is_source(text) && is_folder(text)) return cog_dataset_open_idx(text, train, test);
    cog_spec spec;
    COG_TRY(cog_spec_parse(text, &spec));
    const cog_dataset_ops *source;
    COG_TRY(cog_find_dataset(spec.name, &source));
    return source->open(&spec, train, test);
}

cog_status cog_dataset_open(const char *text, cog_dataset **train, cog_dataset **test) {
    cog_dataset *parts[2] = {NULL, NULL};
    const cog_status status = open_parts(text, &parts[0], &parts[1]);
    if (status != COG_OK) {
        cog_dataset_close(parts[0]);
        cog_dataset_close(parts[1]);
        return status;
    }
    *train = parts[0];
    *test = parts[1];
    return COG_OK;
}

int64_t cog_shard_rows(const cog_dataset *dataset, int n_shards, int shard) {
    if (shard < 0 || shard >= n_shards || shard >= dataset->n_rows) return 0;
    return (dataset->n_rows - shard - 1) / n_shards + 1;
}
