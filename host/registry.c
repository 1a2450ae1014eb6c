/* registry.c - expands registry.def into one table per kind of plug-in. */
#include "registry.h"

#include <stdio.h>
#include <string.h>

#include "check.h"

#define COG_CODE(id)      extern const cog_code_ops cog_code_##id;
#define COG_QUANTIZER(id) extern const cog_quantizer_ops cog_quantizer_##id;
#define COG_PREDICTOR(id) extern const cog_predictor_ops cog_predictor_##id;
#define COG_TRANSPORT(id) extern const cog_transport_ops cog_transport_##id;
#define COG_DEVICE(id)    extern const cog_device_ops cog_device_##id;
#define COG_MODEL(id)     extern const cog_model_ops cog_model_##id;
#define COG_DATASET(id)   extern const cog_dataset_ops cog_dataset_##id;
#include "registry.def"

#define COG_CODE(id) &cog_code_##id,
const cog_code_ops *const cog_codes[] = {
#include "registry.def"
    NULL};

#define COG_QUANTIZER(id) &cog_quantizer_##id,
const cog_quantizer_ops *const cog_quantizers[] = {
#include "registry.def"
    NULL};

#define COG_PREDICTOR(id) &cog_predictor_##id,
const cog_predictor_ops *const cog_predictors[] = {
#include "registry.def"
    NULL};

#define COG_TRANSPORT(id) &cog_transport_##id,
const cog_transport_ops *const cog_transports[] = {
#include "registry.def"
    NULL};

#define COG_DEVICE(id) &cog_device_##id,
const cog_device_ops *const cog_devices[] = {
#include "registry.def"
    NULL};

#define COG_MODEL(id) &cog_model_##id,
const cog_model_ops *const cog_models[] = {
#include "registry.def"
    NULL};

#define COG_DATASET(id) &cog_dataset_##id,
const cog_dataset_ops *const cog_datasets[] = {
#include "registry.def"
    NULL};

/* Defines `find`: the table entry of that name, or an error that lists the table. */
#define FINDER(kind, table, noun)                                                          \
    cog_status cog_find_##kind(const char *name, const cog_##kind##_ops **out) {           \
        char known[256] = "";                                                              \
        size_t length = 0;                                                                 \
        for (size_t i = 0; table[i] != NULL; i++) {                                        \
            if (strcmp(table[i]->name, name) == 0) {                                       \
                *out = table[i];                                                           \
                return COG_OK;                                                             \
            }                                                                              \
            if (length < sizeof(known))                                                    \
                length += (size_t)snprintf(known + length, sizeof(known) - length, "%s%s", \
                                           i > 0 ? ", " : "", table[i]->name);             \
        }                                                                                  \
        COG_FAIL(COG_ERR_SPEC, "no " noun " is named '%s'; there are: %s", name, known);   \
    }

FINDER(code, cog_codes, "code")
FINDER(quantizer, cog_quantizers, "channel")
FINDER(predictor, cog_predictors, "predictor")
FINDER(transport, cog_transports, "transport")
FINDER(device, cog_devices, "device")
FINDER(model, cog_models, "model")
FINDER(dataset, cog_datasets, "data set")
