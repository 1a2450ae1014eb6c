/* fuzz_spec.c - spec strings, and what optimizers and quantizers make of them. */
#include <math.h>

#include "compress.h"
#include "fuzz.h"
#include "optimizer.h"
#include "spec.h"

static void ask(cog_spec *spec) {
    static const char *const names[] = {"ring", "kron", "net", NULL};
    int64_t whole = -77;
    double real = -77;
    bool flag;
    int choice = -77;
    const char *text;
    if (cog_spec_int(spec, "weight", 2, 1, 1024, &whole) == COG_OK)
        FUZZ_CHECK(whole >= 1 && whole <= 1024);
    else
        FUZZ_CHECK(whole == -77);
    if (cog_spec_real(spec, "ratio", 0.5, 0, 1, &real) == COG_OK)
        FUZZ_CHECK(real >= 0 && real <= 1);
    else
        FUZZ_CHECK(real == -77);
    if (cog_spec_choice(spec, "family", names, &choice) == COG_OK)
        FUZZ_CHECK(choice >= 0 && choice < 3);
    (void)cog_spec_flag(spec, "feedback", true, &flag);
    if (cog_spec_text(spec, "decoder", "sum", &text) == COG_OK) FUZZ_CHECK(strlen(text) < 512);
    (void)cog_spec_finish(spec);
}

static void open_optimizer(const char *text) {
    cog_device *device;
    cog_optimizer *optimizer;
    FUZZ_CHECK(cog_device_open("cpu", &device) == COG_OK);
    if (cog_optimizer_open(text, device, 8, &optimizer) == COG_OK) {
        float g[8] = {1}, params[8] = {0};
        FUZZ_CHECK(cog_optimizer_step(optimizer, 3, 0, 8, g, params) == COG_OK);
        cog_optimizer_close(optimizer);
    }
    cog_device_close(device);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    FUZZ_CHECK(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    cog_spec spec;
    cog_quantizer quantizer;
    if (cog_spec_parse(text, &spec) == COG_OK) {
        FUZZ_CHECK(spec.n_keys >= 0 && spec.n_keys <= COG_SPEC_MAX_KEYS);
        ask(&spec);
    }
    if (cog_spec_parse(text, &spec) == COG_OK &&
        cog_quantizer_configure(&spec, 1000, &quantizer) == COG_OK)
        FUZZ_CHECK(quantizer.ops->payload_bytes(&quantizer) < 1 << 20);
    open_optimizer(text);
    free(text);
    return 0;
}

size_t fuzz_seed(int i, uint8_t *out) {
    static const char *const seeds[] = {
        "lwpd:family=ring,weight=2,decoder=transpose,ratio=0.5,feedback=1",
        "topk:ratio=0.01,values=bf16",
        "sign",
        "adam:rate=0.001,beta1=0.9,beta2=0.999,epsilon=1e-8,decay=cosine,scale=100",
        "momentum:rate=1e-3,beta=0.5",
        "libsvm:/tmp/some file",
        "a:b=,c",
        "randk:ratio=1",
        "qsgd:bits=4"};
    if (i >= (int)(sizeof(seeds) / sizeof(seeds[0]))) return 0;
    memcpy(out, seeds[i], strlen(seeds[i]));
    return strlen(seeds[i]);
}
