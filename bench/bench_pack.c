/* bench_pack.c - what encoding a message costs, next to what the memory can do.
 *
 *   -b SIZE  smallest message in bytes of fp32 (K, M, G understood), default 64K
 *   -e SIZE  largest, default 64M         -f F  factor between two, default 16
 *   -n N     timed calls, default 15      -w N  calls before them, default 3
 *   -c SPEC  only this channel (may be repeated), default all that the device can pack
 *   -d, --device SPEC  where to pack, default cpu; see pack_on_device.c for a GPU
 *   -J FILE  a GPU's lines as JSON, too
 *   -p       processor time of the thread instead of wall clock: for a machine that is shared
 *
 * One message and its error go in (L = 1, feedback), payload and residual come out, on one thread:
 * out of place as a channel does it, and in place with the residual over the error. algbw counts
 * floor bytes, the fewest that any implementation with those passes must move:
 *     sign, one scale per group   12 + 1/8 + 4/group     sign, one scale    20 + 1/8
 *     top-k chunk, threshold      12 + payload           top-k global       16 + payload
 *     bf16                        14                     identity           16
 *     powersgd                    28 + payload           others             12 + payload
 * xfloor is algbw over the bandwidth of y = a y on a vector of the message's size: every call of
 * pack is followed by one of that loop, so both see the same machine. Medians. A message that fits
 * a cache is timed there. #wrong counts entries whose residual or decoded value is not the plain
 * reference's; of measurements those whose residual is neither the trial nor 0.
 */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "channel.h"
#include "check.h"
#include "pack_floor.h"
#include "pack_on_device.h"
#include "pack_reference.h"
#include "rng.h"

enum { MAX_SPECS = 32, MAX_RUNS = 1000 };

typedef struct options {
    double first, last, factor;
    int n_runs, n_warm, n_specs;
    const char *spec[MAX_SPECS];
    const char *device, *record;
} options;

/* A message on its way; all vectors are as long. */
typedef struct job {
    cog_quantizer q;
    cog_device *device;
    float *x, *error, *residual, *y;
    void *state, *scratch, *payload;
} job;

typedef struct result {
    double us, rmw_us; /* medians */
    int64_t n_wrong;
} result;

static clockid_t timer = CLOCK_MONOTONIC;

static double now_us(void) {
    struct timespec t;
    clock_gettime(timer, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof(*x), by_value);
    return n % 2 != 0 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

/* ---- what the memory can do ----------------------------------------------------------------- */

#if defined(__x86_64__) && defined(__GNUC__)
#define WIDE __attribute__((target_clones("default", "avx2", "avx512f"), noinline))
#else
#define WIDE __attribute__((noinline))
#endif

WIDE static void scale_in_place(float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = 0.999f * y[i];
}

WIDE static uint32_t read_all(const float *x, int64_t n) {
    uint32_t any = 0;
    const uint32_t *word = (const uint32_t *)(const void *)x;
    for (int64_t i = 0; i < n; i++) any |= word[i];
    return any;
}

static double bandwidth(char what, const job *j, int n_runs) {
    double us[MAX_RUNS];
    volatile uint32_t sink = 0;
    for (int i = -1; i < n_runs; i++) {
        const double start = now_us();
        if (what == 'r') sink ^= read_all(j->x, j->q.n);
        if (what == 'c') memcpy(j->y, j->x, (size_t)j->q.n * 4);
        if (what == 'm') scale_in_place(j->y, j->q.n);
        if (i >= 0) us[i] = now_us() - start;
    }
    return (what == 'r' ? 4 : 8) * (double)j->q.n / median(us, n_runs) * 1e-3;
}

static int64_t count_wrong(const job *j, const char *spec, const float *trial,
                           const float *residual) {
    const cog_quantizer *q = &j->q;
    float *decoded = calloc((size_t)q->n, sizeof(*decoded));
    char *chosen = calloc((size_t)q->n, 1);
    int64_t n_wrong = 0;
    if (q->ops->aggregate != NULL)
        for (int64_t i = 0; i < q->n; i++) n_wrong += residual[i] != 0 && residual[i] != trial[i];
    else
        q->ops->on[COG_CPU]->add(q, j->device, j->payload, 1.0f, 0, q->n, decoded);
    for (int64_t i = 0; i < q->n && q->ops->aggregate == NULL; i++)
        n_wrong += residual[i] != trial[i] - decoded[i];
    if (strncmp(spec, "sign", 4) == 0) n_wrong += wrong_signs(q, spec, trial, decoded);
    if (strncmp(spec, "topk", 4) == 0 && strstr(spec, "threshold") == NULL) {
        expected_choice(q, spec, trial, chosen);
        for (int64_t i = 0; i < q->n; i++)
            n_wrong += trial[i] != 0 && (chosen[i] != 0) != (decoded[i] != 0);
    }
    free(decoded);
    free(chosen);
    return n_wrong;
}

/* ---- timing --------------------------------------------------------------------------------- */

static cog_status pack(job *j, float *residual, const float *error) {
    const cog_term terms[2] = {{j->x, 1.0f}, {error, 1.0f}};
    return j->q.ops->on[COG_CPU]->pack(&j->q, j->device, error != NULL ? 2 : 1, terms, residual,
                                       j->state, j->scratch, j->payload);
}

static cog_status time_pack(job *j, const options *o, const char *spec, bool in_place,
                            result *out) {
    float *residual = in_place ? j->error : j->residual;
    const size_t state_bytes = cog_quantizer_state_bytes(&j->q);
    double us[MAX_RUNS], rmw_us[MAX_RUNS];
    float *trial = malloc((size_t)j->q.n * sizeof(*trial));
    COG_CHECK(trial != NULL, COG_ERR_MEMORY, "no memory for a trial");
    cog_status status = COG_OK;
    memset(j->state, 0, state_bytes);
    for (int i = -o->n_warm; i < o->n_runs && status == COG_OK; i++) {
        if (i == o->n_runs - 1)
            for (int64_t e = 0; e < j->q.n; e++) trial[e] = fmaf(1.0f, j->error[e], j->x[e]);
        const double start = now_us();
        status = pack(j, residual, j->error);
        const double middle = now_us();
        scale_in_place(j->y, j->q.n);
        if (i < 0) continue;
        us[i] = middle - start;
        rmw_us[i] = now_us() - middle;
    }
    if (status == COG_OK)
        *out = (result){median(us, o->n_runs), median(rmw_us, o->n_runs),
                        count_wrong(j, spec, trial, residual)};
    free(trial);
    return status;
}

static void close_job(job *j) {
    void *owned[] = {j->x, j->error, j->residual, j->y, j->state, j->scratch, j->payload};
    for (size_t i = 0; i < sizeof(owned) / sizeof(owned[0]); i++)
        cog_device_free(j->device, owned[i]);
}

static cog_status open_job(const char *text, cog_device *device, int64_t n, job *j) {
    cog_spec spec;
    *j = (job){.device = device};
    COG_TRY(cog_spec_parse(text, &spec));
    COG_TRY(cog_quantizer_configure(&spec, n, &j->q));
    float **vectors[] = {&j->x, &j->error, &j->residual, &j->y};
    for (int v = 0; v < 4; v++) COG_TRY(cog_device_zeros(device, n, vectors[v]));
    const cog_quantizer_ops *ops = j->q.ops;
    COG_TRY(device->ops->alloc(device, cog_quantizer_state_bytes(&j->q), &j->state));
    COG_TRY(device->ops->alloc(device, cog_quantizer_scratch_bytes(&j->q, NULL), &j->scratch));
    COG_TRY(device->ops->alloc(device, ops->payload_bytes(&j->q), &j->payload));
    memset(j->scratch, 0, cog_quantizer_scratch_bytes(&j->q, NULL));
    cog_rng rng = cog_rng_make(1, COG_STREAM_TEST, 0, 0);
    for (int64_t i = 0; i < n; i++) {
        j->x[i] = (float)cog_rng_normal(&rng);
        j->error[i] = 0.5f * (float)cog_rng_normal(&rng);
        j->y[i] = 1;
    }
    return COG_OK;
}

static cog_status bench_channel(const char *spec, cog_device *device, int64_t n, const options *o) {
    job j;
    result out_of_place = {0}, in_place = {0};
    cog_status status = open_job(spec, device, n, &j);
    if (status == COG_OK) status = time_pack(&j, o, spec, false, &out_of_place);
    const double bytes = status == COG_OK ? floor_bytes(&j.q, spec, j.payload) : 0;
    if (status == COG_OK) status = time_pack(&j, o, spec, true, &in_place);
    close_job(&j);
    COG_TRY(status);
    printf("%12lld %12lld %5s", (long long)n * 4, (long long)n, "float");
    const result *both[2] = {&out_of_place, &in_place};
    for (int i = 0; i < 2; i++) {
        const double bandwidth_here = bytes / both[i]->us * 1e-3;
        const double rmw = 8 * (double)n / both[i]->rmw_us * 1e-3;
        printf(" %10.1f %7.2f %7.2f %6lld", both[i]->us, bandwidth_here, bandwidth_here / rmw,
               (long long)both[i]->n_wrong);
    }
    printf("  %s\n", spec);
    fflush(stdout);
    return COG_OK;
}

/* ---- selection against quickselect ---------------------------------------------------------- */

static cog_status time_selection(cog_device *device, int64_t n, int n_runs) {
    job j;
    double us[MAX_RUNS];
    cog_status status = open_job("topk:ratio=0.01,kind=global", device, n, &j);
    uint64_t *key = malloc((size_t)n * sizeof(*key));
    if (status == COG_OK && key != NULL) {
        for (int i = 0; i < n_runs; i++) {
            const double start = now_us();
            pack(&j, j.residual, NULL);
            us[i] = now_us() - start;
        }
        const double ours = median(us, n_runs);
        for (int i = 0; i < 3; i++) {
            for (int64_t e = 0; e < n; e++)
                key[e] = (uint64_t)magnitude(j.x[e]) << 32 | (uint32_t)~e;
            const double start = now_us();
            quickselect(key, n, j.q.kept);
            us[i] = now_us() - start;
        }
        const double theirs = median(us, 3);
        printf("# exact top 1 %% of %lld floats: quickselect %.1f ms, whole pack %.1f ms: %.1fx\n",
               (long long)n, theirs * 1e-3, ours * 1e-3, theirs / ours);
    }
    free(key);
    close_job(&j);
    return status;
}

/* ---- command -------------------------------------------------------------------------------- */

static double size_of(const char *text) {
    char *end;
    const double number = strtod(text, &end);
    const char *units = "KMG", *unit = *end != '\0' ? strchr(units, *end & ~0x20) : NULL;
    return unit == NULL ? number : number * (double)(1LL << (10 * (unit - units + 1)));
}

static const char usage[] =
    "usage: cograd-bench-pack [-b SIZE] [-e SIZE] [-f FACTOR] [-n RUNS] "
    "[-w RUNS] [-c CHANNEL]... [-p]\n                         [-d DEVICE] [-J FILE]\n";

static bool parse(int argc, char **argv, options *o) {
    static const struct option names[] = {{"device", required_argument, NULL, 'd'}, {0}};
    int flag;
    while ((flag = getopt_long(argc, argv, "b:e:f:n:w:c:d:J:ph", names, NULL)) != -1)
        switch (flag) {
        case 'b': o->first = size_of(optarg); break;
        case 'e': o->last = size_of(optarg); break;
        case 'f': o->factor = atof(optarg); break;
        case 'n': o->n_runs = atoi(optarg); break;
        case 'w': o->n_warm = atoi(optarg); break;
        case 'd': o->device = optarg; break;
        case 'J': o->record = optarg; break;
        case 'p': timer = CLOCK_THREAD_CPUTIME_ID; break;
        case 'c':
            if (o->n_specs == MAX_SPECS) return false;
            o->spec[o->n_specs++] = optarg;
            break;
        default: return false;
        }
    return optind == argc && o->first >= 4 && o->last <= 1e11 && o->factor > 1 && o->n_runs >= 1 &&
           o->n_runs <= MAX_RUNS && o->n_warm >= 0;
}

static bool runs_on(cog_device_kind kind, const char *text) {
    cog_spec spec;
    cog_quantizer q;
    return cog_spec_parse(text, &spec) == COG_OK &&
           cog_quantizer_configure(&spec, 4096, &q) == COG_OK && q.ops->on[kind] != NULL;
}

/* Those that the device can pack. */
static void use_default_channels(options *o, cog_device_kind kind) {
    static const char *const specs[] = {"sign:scale=group",
                                        "sign",
                                        "topk:ratio=0.01",
                                        "topk:ratio=0.001",
                                        "topk:ratio=0.01,values=bf16",
                                        "topk:ratio=0.01,kind=threshold",
                                        "topk:ratio=0.01,kind=global",
                                        "topk:ratio=0.001,kind=global",
                                        "bf16",
                                        "identity",
                                        "qsgd",
                                        "qsgd:bits=2,rounding=nearest",
                                        "randk",
                                        "fosgd",
                                        "wyner-ziv",
                                        "powersgd",
                                        "cs",
                                        "qcs"};
    if (o->n_specs > 0) return;
    for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++)
        if (runs_on(kind, specs[i])) o->spec[o->n_specs++] = specs[i];
}

static cog_status bench_size(cog_device *device, int64_t n, const options *o) {
    job j;
    COG_TRY(open_job("identity", device, n, &j));
    printf("# %lld floats, GB/s: read %.1f, copy %.1f, y = a y %.1f\n", (long long)n,
           bandwidth('r', &j, o->n_runs), bandwidth('c', &j, o->n_runs),
           bandwidth('m', &j, o->n_runs));
    close_job(&j);
    for (int i = 0; i < o->n_specs; i++) COG_TRY(bench_channel(o->spec[i], device, n, o));
    return COG_OK;
}

static cog_status bench_gpu(cog_device *device, const options *o) {
    FILE *record = o->record != NULL ? fopen(o->record, "w") : NULL;
    int n_records = 0;
    cog_status status = COG_OK;
    COG_CHECK(record != NULL || o->record == NULL, COG_ERR_IO, "'%s' cannot be written", o->record);
    printf("#%11s %12s %5s %10s %10s %10s %9s %9s %7s %6s  channel\n", "size (B)", "count", "type",
           "time (us)", "least", "most", "algbw", "copybw", "xfloor", "#wrong");
    if (record != NULL) fputs("[\n", record);
    for (double size = o->first; size <= o->last && status == COG_OK; size *= o->factor)
        status = bench_on_device(device, (int64_t)(size / 4), o->n_specs, o->spec, o->n_warm,
                                 o->n_runs, record, &n_records);
    if (record == NULL) return status;
    fputs("\n]\n", record);
    const bool is_written = !ferror(record);
    COG_CHECK(fclose(record) == 0 && is_written, COG_ERR_IO, "'%s' cannot be written", o->record);
    return status;
}

static void print_head(void) {
    printf("#%11s %12s %5s %33s %33s\n", "", "", "", "out of place", "in place");
    printf("#%11s %12s %5s", "size (B)", "count", "type");
    for (int i = 0; i < 2; i++)
        printf(" %10s %7s %7s %6s", "time (us)", "algbw", "xfloor", "#wrong");
    printf("  channel\n");
}

static cog_status bench_cpu(cog_device *device, const options *o) {
    cog_status status = COG_OK;
    int64_t n = 0;
    print_head();
    for (double size = o->first; size <= o->last && status == COG_OK; size *= o->factor) {
        n = (int64_t)(size / 4);
        status = bench_size(device, n, o);
    }
    if (status == COG_OK && n > 0) status = time_selection(device, n, o->n_runs);
    return status;
}

static cog_status bench(options *o) {
    cog_device *device;
    COG_TRY(cog_device_open(o->device, &device));
    const cog_device_kind kind = cog_device_kind_of(device);
    use_default_channels(o, kind);
    const cog_status status = kind == COG_CPU ? bench_cpu(device, o) : bench_gpu(device, o);
    cog_device_close(device);
    return status;
}

int main(int argc, char **argv) {
    options o = {.first = 1 << 16,
                 .last = 1 << 26,
                 .factor = 16,
                 .n_runs = 15,
                 .n_warm = 3,
                 .device = "cpu"};
    if (!parse(argc, argv, &o)) {
        fputs(usage, stderr);
        return 2;
    }
    if (bench(&o) == COG_OK) return 0;
    fprintf(stderr, "cograd-bench-pack: %s\n", cog_last_error());
    return 1;
}
