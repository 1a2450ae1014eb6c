/* registry.h - find a plug-in by name, or walk all of one kind. */
#ifndef COG_HOST_REGISTRY_H
#define COG_HOST_REGISTRY_H

#include "code.h"
#include "compress.h"
#include "dataset.h"
#include "device.h"
#include "model.h"
#include "predict.h"
#include "transport.h"

/* NULL-terminated, in the order of registry.def. */
extern const cog_code_ops *const cog_codes[];
extern const cog_quantizer_ops *const cog_quantizers[];
extern const cog_predictor_ops *const cog_predictors[];
extern const cog_transport_ops *const cog_transports[];
extern const cog_device_ops *const cog_devices[];
extern const cog_model_ops *const cog_models[];
extern const cog_dataset_ops *const cog_datasets[];

/* ERR_SPEC, naming what there is, when the name is not registered. */
cog_status cog_find_code(const char *name, const cog_code_ops **out);
cog_status cog_find_quantizer(const char *name, const cog_quantizer_ops **out);
cog_status cog_find_predictor(const char *name, const cog_predictor_ops **out);
cog_status cog_find_transport(const char *name, const cog_transport_ops **out);
cog_status cog_find_device(const char *name, const cog_device_ops **out);
cog_status cog_find_model(const char *name, const cog_model_ops **out);
cog_status cog_find_dataset(const char *name, const cog_dataset_ops **out);

#endif
