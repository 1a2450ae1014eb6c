/* test_nccl.c - runs over NCCL, sums, and what happens when a rank hangs, dies or fails.
 *
 * Faults are those that the virtual CUDA machine can be told to play; elsewhere those tests say so
 * and end. What NCCL and CUDA are asked to make is counted on its way. */
#define NEED_GPUS 9
#include "need_gpu.h"

#include <dlfcn.h>
#include <nccl.h>

#include "engine_rig.h"
#include "rng.h"
#include "transport_rig.h"

enum { N_WORKERS = 8 };

/* --- what is made and given back -------------------------------------------------------------- */

static atomic_int n_made, n_gone; /* communicators, streams, events, memory */

/* name(parameters), counted when it made or took back something. */
#define COUNTED(counter, condition, type, name, parameters, arguments) \
    type name parameters {                                             \
        type(*next) parameters;                                        \
        *(void **)&next = dlsym(RTLD_NEXT, #name);                     \
        if (condition) counter++;                                      \
        return next arguments;                                         \
    }
#define MAKES(...)       COUNTED(n_made, true, __VA_ARGS__)
#define TAKES(what, ...) COUNTED(n_gone, (what) != NULL, __VA_ARGS__)

MAKES(cudaError_t, cudaMalloc, (void **memory, size_t n), (memory, n))
MAKES(cudaError_t, cudaHostAlloc, (void **memory, size_t n, unsigned flags), (memory, n, flags))
MAKES(cudaError_t, cudaStreamCreateWithFlags, (cudaStream_t * stream, unsigned flags),
      (stream, flags))
MAKES(cudaError_t, cudaEventCreateWithFlags, (cudaEvent_t * event, unsigned flags), (event, flags))
MAKES(ncclResult_t, ncclCommInitRankConfig,
      (ncclComm_t * comm, int n, ncclUniqueId id, int rank, ncclConfig_t *config),
      (comm, n, id, rank, config))
TAKES(memory, cudaError_t, cudaFree, (void *memory), (memory))
TAKES(memory, cudaError_t, cudaFreeHost, (void *memory), (memory))
TAKES(stream, cudaError_t, cudaStreamDestroy, (cudaStream_t stream), (stream))
TAKES(event, cudaError_t, cudaEventDestroy, (cudaEvent_t event), (event))
TAKES(comm, ncclResult_t, ncclCommAbort, (ncclComm_t comm), (comm))

/* --- refusals --------------------------------------------------------------------------------- */

Test(nccl, too_few_gpus_and_bad_keys_are_refused_in_words) {
    int n_gpus;
    char words[100];
    cog_transport *t = NULL;
    cr_assert_eq(cudaGetDeviceCount(&n_gpus), cudaSuccess);
    cr_assert_eq(cog_transport_create("nccl", n_gpus, &t), COG_ERR_DEVICE);
    snprintf(words, sizeof(words), "%d for %d workers; %d can be used", n_gpus + 1, n_gpus, n_gpus);
    cr_assert(strstr(cog_last_error(), words), "'%s' lacks '%s'", cog_last_error(), words);
    cr_assert_eq(cog_transport_create("nccl:timeout=0", 2, &t), COG_ERR_SPEC);
    cr_assert_eq(cog_transport_create("nccl:ring=1", 2, &t), COG_ERR_SPEC);
    cr_assert_null(t);
}

/* --- sums ------------------------------------------------------------------------------------- */

/* Sums of n_workers numbers in any order: every rounding adds at most its unit of the size. */
static void check_sums(const float *in, float *const *out, int n_workers, int64_t n, bool bf16) {
    const double unit = bf16 ? 0x1p-8 : 0x1p-24;
    for (int64_t i = 0; i < n; i++) {
        double exact = 0, size = 0;
        for (int w = 0; w < n_workers; w++) {
            exact += (double)in[w * n + i];
            size += fabs((double)in[w * n + i]);
        }
        cr_assert(fabs(out[0][i] - exact) <= size * (pow(1 + unit, n_workers) - 1),
                  "%d workers, bf16 %d, entry %lld: %.9g, not %.9g", n_workers, bf16, (long long)i,
                  (double)out[0][i], exact);
        for (int w = 1; w < n_workers; w++)
            cr_assert_eq(memcmp(&out[w][i], &out[0][i], sizeof(float)), 0, "worker %d", w);
    }
}

static void run_sums(int n_workers, int64_t n, bool bf16) {
    enum { ROUNDS = 3 };
    rig r;
    float *out[N_WORKERS];
    cog_rng rng = cog_rng_make(3, COG_STREAM_TEST, (uint32_t)n, bf16);
    float *in = malloc((size_t)(n_workers * n) * sizeof(float));
    rig_open(&r, "nccl", n_workers, (size_t)n * sizeof(float) + 100);
    for (int round = 0; round < ROUNDS; round++) {
        for (int64_t i = 0; i < n_workers * n; i++)
            in[i] = ldexpf((float)(int32_t)cog_rng_u32(&rng), (int)(cog_rng_u32(&rng) % 9) - 31);
        float *x = malloc((size_t)(n_workers * n) * sizeof(float));
        memcpy(x, in, (size_t)(n_workers * n) * sizeof(float));
        for (int w = 0; w < n_workers; w++) {
            out[w] = r.workers[w].x = x + w * n;
            r.workers[w].n = n;
            r.workers[w].bf16 = bf16;
            rig_order(&r, w, SUM, 0, round, NULL, 0);
        }
        for (int w = 0; w < n_workers; w++)
            cr_assert_eq(rig_receive(&r).header.kind, COG_FRAME_DONE);
        check_sums(in, out, n_workers, n, bf16);
        free(x);
    }
    const int64_t half = (int64_t)(n_workers - 1) * n * (bf16 ? 2 : 4);
    cr_assert_eq(r.transport->bytes_up, ROUNDS * (48 * n_workers + half));
    cr_assert_eq(r.transport->bytes_down, ROUNDS * (48 * n_workers + half));
    rig_close(&r);
    free(in);
}

Test(nccl, an_all_reduce_is_the_sum_within_its_roundings_and_the_same_everywhere) {
    for (int bf16 = 0; bf16 <= 1; bf16++) {
        run_sums(N_WORKERS, 1000, bf16);
        run_sums(3, 9000, bf16);
        run_sums(1, 5, bf16);
    }
}

/* --- whole runs ------------------------------------------------------------------------------- */

static cog_engine_config over_nccl(void) {
    cog_engine_config c = small();
    c.model = "softmax";
    c.transport = "nccl";
    return c;
}

static void expect_the_run_of_sim(const cog_engine_config *over, double most) {
    cog_report report;
    float *x = params_after(over, 8, &report);
    expect_run_of_sim(over, 8, x, &report, most);
}

Test(nccl, with_everybody_awaited_every_bit_is_that_of_sim) {
    static const char *const codes[] = {"lwpd:weight=2,wait=8", "kasync:k=8", "frc:stragglers=0",
                                        "crc:stragglers=0"};
    static const char *const channels[] = {"identity", "topk:ratio=0.1,feedback=1"};
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        cog_engine_config c = over_nccl();
        c.code = codes[i];
        c.channel = channels[i % 2];
        expect_the_run_of_sim(&c, 0);
    }
    cog_engine_config adam = over_nccl();
    adam.optimizer = "adam:rate=0.01";
    adam.downlink = "bf16";
    expect_the_run_of_sim(&adam, 0);
}

/* NCCL adds in an order of its own. */
Test(nccl, an_uncoded_run_is_that_of_sim_within_the_roundings_of_its_sums) {
    cog_engine_config c = over_nccl();
    c.code = "uncoded";
    expect_the_run_of_sim(&c, 1e-5);
    c.code = "uncoded:precision=bf16";
    expect_the_run_of_sim(&c, 0.05);
}

/* Every rank computes on its own GPU. Slow on a virtual one, and the same in any order of work. */
Test(nccl, gpus_train_with_the_bits_of_threads_on_one) {
    const char *share = getenv("COG_TEST_SHARE");
    cog_engine_config c = over_nccl(), threads;
    if (share != NULL && atoi(share) > 1) return;
    c.device = "cuda";
    c.n_workers = 3;
    c.code = "frc:stragglers=0";
    c.channel = "topk:ratio=0.1,feedback=1";
    threads = c;
    threads.transport = "threads";
    expect_same_run(&c, &threads, 2);
}

/* --- faults ----------------------------------------------------------------------------------- */

/* False where faults cannot be played. Communicators are numbered as they are made: that of all
 * workers, then one for each. */
static bool play(const char *fault) {
    if (dlsym(RTLD_DEFAULT, "vgpu_nccl_fault") == NULL) {
        fprintf(stderr, "skipped: NCCL here plays no faults\n");
        return false;
    }
    cr_assert_eq(setenv("PTXRUN_NCCL_FAULT", fault, 1), 0);
    return true;
}

static const struct {
    const char *fault, *words;
} faults[] = {
    {"silent,rank=1,comm=3,after=4", "gave no answer for 3 s"},
    {"silent,rank=0,comm=3,after=4", "gave no answer for 3 s"},
    {"error,rank=1,comm=3,after=4", "lost its link: NCCL on GPU 3"},
    {"error,rank=0,comm=3,after=4", "is gone: "},
    {"die,rank=1,comm=3,after=4", "remote process exited"},
};
/* What hangs is noticed by the clock, what fails before. In 3 s the workers that do not hang have
 * answered on a busy machine, too. */
static const char *spec_for(const char *fault) {
    return strstr(fault, "silent") != NULL ? "nccl:timeout=3" : "nccl:timeout=20";
}

static bool all_answered(const int *answers) {
    for (int w = 0; w < N_WORKERS; w++)
        if (w != 2 && answers[w] < 3) return false;
    return true;
}

static void check_words(const cog_frame *lost, const char *words) {
    char why[201] = "";
    memcpy(why, lost->payload, lost->header.bytes);
    cr_assert(strstr(why, words), "'%s' lacks '%s'", why, words);
}

/* Worker 2 is lost, and the others answer everything. */
static void check_lost(size_t which) {
    rig r;
    int answers[N_WORKERS] = {0}, n_lost = 0;
    if (!play(faults[which].fault)) return;
    rig_open(&r, spec_for(faults[which].fault), N_WORKERS, 100);
    const double begin = rig_clock();
    for (int round = 0; round < 3; round++)
        for (int w = 0; w < N_WORKERS; w++) rig_order(&r, w, ECHO, 1, round, NULL, 0);
    while (n_lost == 0 || !all_answered(answers)) {
        const cog_frame frame = rig_receive(&r);
        if (frame.header.kind == COG_FRAME_LOST) {
            cr_assert(frame.header.source == 3 && n_lost++ == 0);
            check_words(&frame, faults[which].words);
        } else {
            answers[frame.header.source - 1]++;
        }
    }
    cr_assert(rig_clock() - begin < 8, "%g s", rig_clock() - begin);
    cr_assert(answers[2] <= 1, "%d answers", answers[2]);
    rig_order(&r, 2, ECHO, 1, 9, NULL, 0); /* to nobody */
    rig_order(&r, 5, ECHO, 1, 9, NULL, 0);
    cr_assert_eq(rig_receive(&r).header.source, 6);
    rig_close(&r);
    cr_assert_eq(n_made, n_gone, "%d made, %d gone", (int)n_made, (int)n_gone);
}

Test(nccl_faults, a_hung_worker_is_lost_in_time) { check_lost(0); }
Test(nccl_faults, a_hung_end_of_the_server_loses_that_worker) { check_lost(1); }
Test(nccl_faults, a_worker_whose_communicator_fails_is_lost) { check_lost(2); }
Test(nccl_faults, a_worker_whose_communicator_fails_at_the_server_is_lost) { check_lost(3); }
Test(nccl_faults, a_dead_worker_is_lost) { check_lost(4); }

Test(nccl_faults, a_slow_connection_comes_last_and_is_not_lost) {
    rig r;
    if (!play("slow,rank=1,comm=1,after=2,ms=30")) return;
    rig_open(&r, "nccl:timeout=20", 3, 100);
    for (int w = 0; w < 3; w++) rig_order(&r, w, ECHO, 1, 0, NULL, 0);
    cr_assert_neq(rig_receive(&r).header.source, 1);
    cr_assert_neq(rig_receive(&r).header.source, 1);
    const cog_frame last = rig_receive(&r);
    cr_assert(last.header.source == 1 && last.header.kind == COG_FRAME_MESSAGE);
    rig_close(&r);
}

/* LWPD decodes without the lost one; codes that cannot, say so. */
static void check_run(const char *fault, const char *code, const char *words) {
    cog_engine_config c = over_nccl();
    if (!play(fault)) return;
    c.code = code;
    c.transport = spec_for(fault);
    cog_engine *e = open_engine(&c);
    const double begin = rig_clock();
    const cog_status status = cog_engine_run(e, 30, NULL, NULL);
    cr_assert(rig_clock() - begin < 15, "%s: %g s", code, rig_clock() - begin);
    cr_assert_eq(status, words == NULL ? COG_OK : COG_ERR_TRANSPORT, "%s: %s", code,
                 cog_last_error());
    if (words != NULL)
        cr_assert(strstr(cog_last_error(), words), "%s: '%s' lacks '%s'", code, cog_last_error(),
                  words);
    else
        cr_assert_eq(cog_engine_report(e).round, 30);
    cog_engine_destroy(e);
    cr_assert_eq(n_made, n_gone, "%d made, %d gone", (int)n_made, (int)n_gone);
}

static const char hung[] = "silent,rank=1,comm=3,after=8", dead[] = "die,rank=1,comm=3,after=8";

Test(nccl_faults, lwpd_goes_on_without_a_hung_worker) {
    check_run(hung, "lwpd:weight=2,wait=6", NULL);
}
Test(nccl_faults, lwpd_goes_on_without_a_dead_worker) {
    check_run(dead, "lwpd:weight=2,wait=6", NULL);
}
Test(nccl_faults, a_code_without_redundancy_says_who_is_gone) {
    check_run(hung, "frc:stragglers=0", "worker 2 gave no answer for 3 s, and without the 1 of 8");
}
Test(nccl_faults, an_all_reduce_says_who_is_gone) {
    check_run(dead, "uncoded", "an all-reduce needs the workers it began with: worker 2 is gone");
}
Test(nccl_faults, an_all_reduce_that_hangs_is_given_up) {
    check_run("silent,rank=2,comm=0,after=5", "uncoded", "did not end within 3 s");
}
Test(nccl_faults, an_all_reduce_that_fails_says_so) {
    check_run("die,rank=2,comm=0,after=5", "uncoded", "remote process exited");
}

/* --- what rounds and stops leave -------------------------------------------------------------- */

Test(nccl, rounds_make_nothing_and_a_stop_leaves_nothing) {
    rig r;
    unsigned char payload[3 * 16384] = {7};
    rig_open(&r, "nccl", 3, sizeof(payload));
    const int made = n_made, gone = n_gone;
    cr_assert(made - gone >= 3 * (3 * 3 + 2 * 4)); /* ends, and memory of those with frames */
    for (int round = 0; round < 20; round++)
        for (int w = 0; w < 3; w++) {
            rig_order(&r, w, ECHO, 2, round, payload, sizeof(payload));
            rig_receive(&r);
        }
    cr_assert_eq(n_made, made, "rounds made something");
    cr_assert_eq(n_gone, gone, "rounds gave something up");
    for (int w = 0; w < 3; w++) rig_order(&r, w, SLEEP, 5000, 0, NULL, 0);
    r.transport->ops->stop(r.transport); /* in the middle of it */
    cr_assert_eq(n_made, n_gone, "%d made, %d gone", (int)n_made, (int)n_gone);
    cr_assert_eq(r.transport->ops->start(r.transport), COG_OK, "%s", cog_last_error());
    rig_close(&r);
    cr_assert_eq(n_made, n_gone);
}

Test(nccl, a_worker_that_computes_for_too_long_is_lost_and_its_answer_does_not_come) {
    rig r;
    cog_frame frame;
    rig_open(&r, "nccl:timeout=0.3", 2, 100);
    rig_order(&r, 0, SLEEP, 20, 1, NULL, 0);
    rig_order(&r, 1, SPIN, 700, 1, NULL, 0);
    cr_assert_eq(rig_receive(&r).header.source, 1);
    frame = rig_receive(&r);
    cr_assert(frame.header.source == 2 && frame.header.kind == COG_FRAME_LOST);
    cr_assert_eq(r.transport->ops->receive(r.transport, 0.8, &frame), COG_ERR_TIMEOUT);
    rig_close(&r);
    cr_assert_eq(n_made, n_gone, "%d made, %d gone", (int)n_made, (int)n_gone);
}
