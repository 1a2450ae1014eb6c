/* cmd_info.c - `cograd info`: what can be named in a spec string, and how this cograd was built.
 *
 * The keys are not written down here: every plug-in is configured with an empty spec, and the spec
 * remembers what was asked, with defaults and ranges.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cograd/cograd.h"
#include "commands.h"
#include "complain.h"
#include "progress.h"
#include "optimizer.h"
#include "registry.h"
#include "spec.h"
#include "faults.h"
#include "stragglers.h"

/* A cluster and a message on which the defaults of all families make sense. */
enum { WORKERS = 8, MESSAGE_LENGTH = 1 << 20 };

static void print_entry(const char *name, const char *summary, const cog_spec *spec) {
    printf("  %-12s %s\n", name, summary);
    for (int i = 0; i < spec->n_asked; i++)
        printf("  %-12s   %s=%s\n", "", spec->asked[i].name, spec->asked[i].meaning);
}

/* A plug-in that refuses its own defaults (no such device here) is still listed, with the reason.
 */
static void print_configured(const char *name, const char *summary, const cog_spec *spec,
                             cog_status status) {
    print_entry(name, summary, spec);
    if (status != COG_OK) printf("  %-12s   (%s)\n", "", cog_sentence(status));
}

static void list_codes(void) {
    puts("\ncodes (--code), keys with their defaults and ranges for 8 workers");
    for (size_t i = 0; cog_codes[i] != NULL; i++) {
        cog_spec spec;
        cog_code *code = calloc(1, sizeof(*code));
        if (code == NULL || cog_spec_parse(cog_codes[i]->name, &spec) != COG_OK) {
            free(code);
            continue;
        }
        code->ops = cog_codes[i];
        code->plan.n_workers = WORKERS;
        print_configured(code->ops->name, code->ops->summary, &spec, code->ops->build(code, &spec));
        cog_code_destroy(code);
    }
}

static void list_channels(void) {
    puts("\nchannels (--channel), each with feedback=0|1, momentum=0 (0..1), warmup=0 and "
         "ramp=0 (rounds), and predict=none besides");
    for (size_t i = 0; cog_quantizers[i] != NULL; i++) {
        cog_spec spec;
        cog_quantizer quantizer = {.ops = cog_quantizers[i], .n = MESSAGE_LENGTH};
        if (cog_spec_parse(quantizer.ops->name, &spec) != COG_OK) continue;
        const cog_status status = quantizer.ops->configure(&quantizer, &spec);
        print_configured(quantizer.ops->name, quantizer.ops->summary, &spec, status);
    }
}

static void list_predictors(void) {
    puts("\npredictors (--channel NAME:predict=PREDICTOR)");
    for (size_t i = 0; cog_predictors[i] != NULL; i++) {
        const char *name = cog_predictors[i]->name;
        char text[64];
        cog_spec spec;
        cog_predictor predictor;
        snprintf(text, sizeof(text), "channel:predict=%s", name);
        if (cog_spec_parse(text, &spec) != COG_OK) continue;
        const cog_status status = cog_predictor_configure(&spec, MESSAGE_LENGTH, &predictor);
        /* `predict`, asked for first, is what names it */
        if (spec.n_asked > 0)
            memmove(spec.asked, spec.asked + 1, (size_t)--spec.n_asked * sizeof(*spec.asked));
        print_configured(name, cog_predictors[i]->summary, &spec, status);
    }
}

static void list_transports(void) {
    puts("\ntransports (--transport)");
    for (size_t i = 0; cog_transports[i] != NULL; i++) {
        cog_spec spec;
        cog_transport transport = {.ops = cog_transports[i], .n_workers = WORKERS};
        if (cog_spec_parse(transport.ops->name, &spec) != COG_OK) continue;
        const cog_status status = transport.ops->open(&transport, &spec);
        /* opened, it may be one of two ends, which go without a summary */
        print_configured(cog_transports[i]->name, cog_transports[i]->summary, &spec, status);
        transport.ops->close(&transport);
    }
}

static void list_devices(void) {
    puts("\ndevices (--device)");
    for (size_t i = 0; cog_devices[i] != NULL; i++) {
        cog_spec spec;
        cog_device device = {.ops = cog_devices[i]};
        if (cog_spec_parse(device.ops->name, &spec) != COG_OK) continue;
        const cog_status status = device.ops->open(&device, &spec);
        print_configured(device.ops->name, "", &spec, status);
        device.ops->close(&device);
    }
}

/* Some models are for classes and some for real targets: the first shape that suits is taken. */
static void list_models(void) {
    puts("\nmodels (--model)");
    for (size_t i = 0; cog_models[i] != NULL; i++) {
        const cog_model_ops *kind = cog_models[i];
        cog_spec spec;
        cog_status status = COG_ERR_ARGUMENT;
        for (int classes = 10; classes >= 0 && status != COG_OK; classes -= 5) {
            const cog_model_shape shape = {784, classes == 5 ? 2 : classes, 1};
            cog_model model = {.name = kind->name, .n_blocks = 1};
            if (cog_spec_parse(kind->name, &spec) != COG_OK) break;
            status = kind->open(&spec, &shape, &model);
            cog_model_close(&model);
        }
        print_configured(kind->name, kind->summary, &spec, status);
    }
}

static void list_datasets(void) {
    puts("\ndata (--data)");
    for (size_t i = 0; cog_datasets[i] != NULL; i++) {
        cog_spec spec;
        cog_dataset *train = NULL, *test = NULL;
        if (cog_spec_parse(cog_datasets[i]->name, &spec) != COG_OK) continue;
        const cog_status status = cog_datasets[i]->open(&spec, &train, &test);
        print_configured(cog_datasets[i]->name, cog_datasets[i]->summary, &spec, status);
        cog_dataset_close(train);
        cog_dataset_close(test);
    }
}

static void list_described(const char *title, const char *(*describe)(int i, cog_spec *spec)) {
    printf("\n%s\n", title);
    cog_spec spec;
    for (int i = 0; describe(i, &spec) != NULL; i++) print_entry(spec.name, "", &spec);
}

static void print_build(void) {
    printf("cograd %s\n", COG_VERSION);
    printf("  %-12s %s, %s%s%s\n", "build", COG_BUILD_COMPILER, COG_BUILD_TYPE,
           COG_BUILD_SANITIZE[0] != '\0' ? ", sanitizers " : "", COG_BUILD_SANITIZE);
    printf("  %-12s %s\n", "products by", COG_BUILD_GEMM);
    printf("  %-12s %s\n", "jansson", jansson_version_str());
#ifdef COG_WITH_ZMQ
    printf("  %-12s built in\n", "ZeroMQ");
#else
    printf("  %-12s not built in\n", "ZeroMQ");
#endif
#ifdef COG_WITH_MPI
    printf("  %-12s built in\n", "MPI");
#else
    printf("  %-12s not built in\n", "MPI");
#endif
#ifdef COG_WITH_NCCL
    printf("  %-12s built in\n", "NCCL");
#else
    printf("  %-12s not built in\n", "NCCL");
#endif
#ifdef COG_WITH_CUDA
    printf("  %-12s built in\n", "CUDA");
#else
    printf("  %-12s not built in\n", "CUDA");
#endif
}

int cog_cmd_info(int argc, char **argv) {
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        puts("usage: cograd info\n\nLists plug-ins with their keys, versions and build options.");
        return cog_output_check();
    }
    if (argc > 1) return cog_complain(COG_EXIT_USAGE, "there is no option '%s' here", argv[1]);
    print_build();
    list_datasets();
    list_models();
    list_codes();
    list_channels();
    list_predictors();
    list_described("optimizers (--optimizer)", cog_optimizer_describe);
    list_transports();
    list_described("stragglers (--stragglers)", cog_stragglers_describe);
    list_described("faults (--faults)", cog_faults_describe);
    list_devices();
    return cog_output_check();
}
