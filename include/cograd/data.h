/* data.h - labelled examples in host memory, and how they are cut into shards. */
#ifndef COG_DATA_H
#define COG_DATA_H

#include <stdint.h>

#include "cograd/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cog_dataset {
    int64_t n_rows;
    int64_t n_features;
    int32_t n_classes; /* labels are 0 .. n_classes-1; 0 when y holds real targets */
    float *x;          /* [n_rows, n_features] row-major */
    float *y;          /* [n_rows] label or target */
} cog_dataset;

/* Read or make the training and the test part.
 *   spec   "mnist"        the copy shipped with cograd; when COGRAD_DATA is set, $COGRAD_DATA/mnist
 *          "DIR"          a folder with the four IDX files of MNIST, plain or gzip; pixels are
 *                         divided by 255
 *          "libsvm:FILE"  sparse text; the test part is test=FILE, or every 10th row. Labels are
 *                         classes when they are 2 to 20 different whole numbers, or as
 *                         labels=classes|targets says
 *          "synthetic:rows=10000,features=100,classes=0,noise=1,seed=1"
 *                         Gaussian features, a linear truth; a tenth as many rows to test
 * NaN and infinite values are refused.
 * ERR_SPEC     a source or a key that does not exist
 * ERR_IO       a file is missing or unreadable
 * ERR_FORMAT   a file is truncated, damaged, or holds a value out of range */
cog_status cog_dataset_open(const char *spec, cog_dataset **train, cog_dataset **test);
void cog_dataset_close(cog_dataset *dataset); /* accepts NULL */

/* Row r of the data set belongs to shard r % n_shards, so that every shard holds a fair sample
 * of a file that is sorted by label. */
int64_t cog_shard_rows(const cog_dataset *dataset, int n_shards, int shard);

#ifdef __cplusplus
}
#endif
#endif
