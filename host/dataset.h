/* dataset.h - what a source of data provides. One source is one file in data/. */
#ifndef COG_HOST_DATASET_H
#define COG_HOST_DATASET_H

#include "cograd/data.h"
#include "spec.h"

typedef struct cog_dataset_ops {
    const char *name;
    const char *summary; /* one line for `cograd info` */
    /* Make both parts. Those made before a failure are closed by the caller. */
    cog_status (*open)(cog_spec *spec, cog_dataset **train, cog_dataset **test);
} cog_dataset_ops;

/* Room for a part, values zero. `source` is whom an error is about.
 * ERR_FORMAT when it would take more memory than a data set may. */
cog_status cog_dataset_new(const char *source, int64_t n_rows, int64_t n_features,
                           int32_t n_classes, cog_dataset **out);

/* A folder with the four files of MNIST. */
cog_status cog_dataset_open_idx(const char *folder, cog_dataset **train, cog_dataset **test);

#endif
