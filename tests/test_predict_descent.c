/* test_predict_descent.c - gradient descent with predicted messages: the bounds of theory, the bits
 * it takes, and whole runs of the engine. */
#include <lapacke.h>

#include "channel_rig.h"
#include "engine_rig.h"

/* Logistic regression of 10 agents, 200 parameters, a little ridge: the problem of Edin et al.'s
 * experiment. The features have something in common, as those of data do, which makes
 * for steps that are short for all other directions. */
enum { AGENTS = 10, D = 200, ROWS = 60 };
static float feature[AGENTS][ROWS][D];
static double label[AGENTS][ROWS];
static const double ridge = 0.005;

static void make_problem(void) {
    cog_rng rng = cog_rng_make(2, COG_STREAM_TEST, 0, 0);
    double truth[D];
    for (int j = 0; j < D; j++) truth[j] = cog_rng_normal(&rng);
    for (int a = 0; a < AGENTS; a++)
        for (int r = 0; r < ROWS; r++) {
            double score = 0;
            for (int j = 0; j < D; j++) {
                feature[a][r][j] = (float)(0.4 + cog_rng_normal(&rng));
                score += truth[j] * feature[a][r][j];
            }
            label[a][r] = cog_rng_uniform(&rng) < 1 / (1 + exp(-score)) ? 1 : -1;
        }
}

/* Agent a's loss and gradient [D]. */
static double differentiate(int a, const double *theta, double *gradient) {
    double loss = 0;
    for (int j = 0; j < D; j++) {
        loss += ridge / 2 * theta[j] * theta[j];
        gradient[j] = ridge * theta[j];
    }
    for (int r = 0; r < ROWS; r++) {
        double score = 0;
        for (int j = 0; j < D; j++) score += theta[j] * feature[a][r][j];
        const double slope = -label[a][r] / (1 + exp(label[a][r] * score));
        loss += log1p(exp(-label[a][r] * score)) / ROWS;
        for (int j = 0; j < D; j++) gradient[j] += slope * feature[a][r][j] / ROWS;
    }
    return loss;
}

/* A bound on the curvature of the mean loss: power iteration, and 1 % more. */
static double smoothness(void) {
    double v[D], norm = 1;
    for (int j = 0; j < D; j++) v[j] = 1;
    for (int step = 0; step < 100; step++) {
        double next[D] = {0}, sum = 0;
        for (int a = 0; a < AGENTS; a++)
            for (int r = 0; r < ROWS; r++) {
                double along = 0;
                for (int j = 0; j < D; j++) along += v[j] * feature[a][r][j];
                for (int j = 0; j < D; j++)
                    next[j] += along * feature[a][r][j] / (4.0 * AGENTS * ROWS);
            }
        for (int j = 0; j < D; j++) sum += next[j] * next[j];
        norm = sqrt(sum);
        for (int j = 0; j < D; j++) v[j] = next[j] / norm;
    }
    return 1.01 * norm + ridge;
}

/* What happened in a round. */
typedef struct descent {
    pair agent[AGENTS];
    double theta[D], step;
    double loss, square_gradient; /* of the mean, before the step */
    double square_error;          /* of the mean estimate */
    double worst_error;           /* the largest ||e_i|| */
    int64_t bits, round;          /* a flag is one bit */
    bool framed;
    float message[D], estimate[D]; /* of agent 0 */
} descent;

static void open_descent(descent *s, const char *spec, double step) {
    memset(s, 0, sizeof(*s));
    for (int a = 0; a < AGENTS; a++) s->agent[a] = open_pair(spec, D);
    s->framed = s->agent[0].sender->framed;
    s->step = step;
}

static void close_descent(descent *s) {
    for (int a = 0; a < AGENTS; a++) close_pair(&s->agent[a]);
}

static void descend(descent *s) {
    double exact[D] = {0}, mean[D] = {0}, gradient[D];
    float message[D];
    s->loss = s->square_gradient = s->square_error = s->worst_error = 0;
    for (int a = 0; a < AGENTS; a++) {
        s->loss += differentiate(a, s->theta, gradient) / AGENTS;
        for (int j = 0; j < D; j++) message[j] = (float)gradient[j];
        size_t bytes;
        const float *estimate = deliver(&s->agent[a], s->round, message, &bytes);
        s->bits += 8 * (int64_t)bytes - (s->framed ? 7 : 0);
        if (a == 0) memcpy(s->message, message, sizeof(message));
        if (a == 0) memcpy(s->estimate, estimate, sizeof(message));
        s->worst_error = fmax(s->worst_error, norm_of_gap(estimate, message, D));
        for (int j = 0; j < D; j++) exact[j] += gradient[j] / AGENTS;
        for (int j = 0; j < D; j++) mean[j] += (double)estimate[j] / AGENTS;
    }
    for (int j = 0; j < D; j++) {
        s->square_gradient += exact[j] * exact[j];
        s->square_error += pow(mean[j] - exact[j], 2);
        s->theta[j] -= s->step * mean[j];
    }
    s->round++;
}

/* Bits until ||gradient||^2 < 1e-4. */
static double megabits(const char *spec, double step) {
    descent s;
    open_descent(&s, spec, step);
    do descend(&s);
    while (s.square_gradient >= 1e-4 && s.round < 2000);
    cr_expect_lt(s.round, 4000, "%s: ||gradient||^2 = %g", spec, s.square_gradient);
    close_descent(&s);
    return (double)s.bits / 1e6;
}

/* The publication's claim, on our problem: a fraction of the bits of gradient descent. 15 times
 * fewer is far inside of what its figures show. */
Test(predict_descent, predictive_coding_takes_a_fifteenth_of_the_bits) {
    static const char *const specs[] = {"identity:predict=temporal,window=2,threshold=0.05",
                                        "identity:predict=temporal,window=3,threshold=0.05",
                                        "identity:predict=temporal,window=5,threshold=0.05"};
    make_problem();
    const double step = 1 / smoothness();
    const double plain = megabits("identity", step);
    for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
        const double predicted = megabits(specs[i], step);
        cr_log_info("%s: %.3g of %.3g Mbit", specs[i], predicted, plain);
        cr_expect_leq(15 * predicted, plain, "%s: %.3g of %.3g Mbit", specs[i], predicted, plain);
    }
    const double lazy = megabits("identity:predict=linear,trigger=relative,threshold=0.3", step);
    const double ef21 = megabits("topk:ratio=0.025,kind=global,predict=linear", step);
    cr_log_info("lazy %.3g, EF21 top-5 %.3g", lazy, ef21);
    cr_expect_lt(lazy, plain);
    cr_expect_leq(15 * ef21, plain, "EF21: %.3g of %.3g Mbit", ef21, plain);
}

/* ---------------------------------------------------------------- against an orthogonal fit */

/* ||x - round(G a)|| for coefficients a that LAPACK's least squares gives in double, rounded to
 * floats: the least over all ranks that it can be told to see, 0 and the last estimate alone. */
static double orthogonal_residual(float (*window)[D], int count, const float *x) {
    double least = INFINITY, s[16], matrix[16 * D], a[D];
    for (int attempt = 0; attempt < 23; attempt++) {
        lapack_int rank;
        float expected[D];
        for (int i = 0; i < count * D; i++) matrix[i] = window[i / D][i % D];
        for (int i = 0; i < D; i++) a[i] = x[i];
        if (attempt < 2)
            for (int j = 0; j < D; j++) a[j] = attempt == 1 && j == 0;
        else
            cr_assert_eq(LAPACKE_dgelsd(LAPACK_COL_MAJOR, D, count, 1, matrix, D, a, D, s,
                                        pow(10, -attempt / 1.6), &rank),
                         0);
        for (int i = 0; i < D; i++) {
            double sum = 0;
            for (int j = 0; j < count; j++) sum += (double)(float)a[j] * window[j][i];
            expected[i] = (float)sum;
        }
        least = fmin(least, norm_of_gap(x, expected, D));
    }
    return least;
}

/* The fit by inner products, along a whole descent: what it leaves next to the least that an
 * orthogonal decomposition leaves, which may look at all ranks. */
Test(predict_descent, inner_products_lose_nothing_that_matters_against_an_orthogonal_fit) {
    static const int windows[] = {3, 5, 16};
    make_problem();
    const double step = 1 / smoothness();
    for (int w = 0; w < 3; w++) {
        char spec[80];
        snprintf(spec, sizeof(spec), "identity:predict=temporal,window=%d,threshold=0.05",
                 windows[w]);
        descent s;
        float window[16][D];
        double logs = 0, worst = 0;
        int rounds = 0;
        open_descent(&s, spec, step);
        do {
            const int count = s.round < windows[w] ? (int)s.round : windows[w];
            descend(&s);
            const float *expected = cog_mirror_expected(s.agent[0].sender->mirror);
            const double left = norm_of_gap(s.message, expected, D);
            const double least = orthogonal_residual(window, count, s.message);
            if (count == windows[w]) {
                logs += log(left / least);
                worst = fmax(worst, left / least);
                rounds++;
            }
            memmove(window[1], window[0], sizeof(window) - sizeof(window[0]));
            memcpy(window[0], s.estimate, sizeof(window[0]));
        } while (s.square_gradient >= 1e-4 && s.round < 200);
        const double mean = exp(logs / rounds);
        cr_log_info("%s: %.4f of the orthogonal residual, at worst %.3f, %d rounds", spec, mean,
                    worst, rounds);
        cr_expect_leq(mean, 1.02, "%s: %g", spec, mean);
        close_descent(&s);
    }
}

/* With step 1/L:  mean ||grad f||^2 <= 2 (f_0 - f_T) / (eta T) + mean ||e||^2, from the descent
 * lemma; and no agent's error is above the threshold, to the rounding of fp32. */
Test(predict_descent, errors_stay_below_the_threshold_and_the_descent_bound_holds) {
    static const double taus[] = {0.3, 0.03, 0.003};
    enum { ROUNDS = 250 };
    make_problem();
    const double step = 1 / smoothness();
    for (size_t i = 0; i < 3; i++) {
        char spec[100];
        snprintf(spec, sizeof(spec), "identity:predict=temporal,trigger=absolute,threshold=%g",
                 taus[i]);
        descent s;
        open_descent(&s, spec, step);
        double gradients = 0, errors = 0, first = 0;
        for (int round = 0; round < ROUNDS; round++) {
            descend(&s);
            if (round == 0) first = s.loss;
            gradients += s.square_gradient / ROUNDS;
            errors += s.square_error / ROUNDS;
            cr_assert_leq(s.worst_error, taus[i] + 1e-6, "%s: %g", spec, s.worst_error);
            const double bound = 2 * (first - s.loss) / (step * ROUNDS) + errors;
            if (round == ROUNDS - 1) {
                /* the loss before the last step: the sum has one step less than it may have */
                const double last = s.square_gradient / ROUNDS;
                cr_expect_leq(gradients - last, bound, "%s: %g, bound %g", spec, gradients, bound);
                cr_expect_lt(0, s.bits);
            }
        }
        close_descent(&s);
    }
}

/* ---------------------------------------------------------------- the engine */

/* Every row of the plan has mirrors of its own, so predictors go with every code, redrawn
 * coefficients and late answers included. */
Test(predict_descent, every_code_trains_with_predicted_messages) {
    static const char *const codes[] = {"ignore:wait=6",
                                        "kasync:k=4",
                                        "frc:stragglers=1",
                                        "crc:stragglers=2",
                                        "lwpd:wait=6",
                                        "replication:wait=6",
                                        "lwpd:wait=6,decoder=memory",
                                        "ye-abbe:stragglers=1,blocks=2"};
    static const char *const channels[] = {
        "identity:predict=temporal,threshold=0.1", "topk:ratio=0.2,predict=linear",
        "topk:ratio=0.2,predict=temporal,window=2,push=fired,threshold=0.1",
        "topk:ratio=0.2,feedback=1,momentum=0.5", "topk:ratio=0.2,feedback=1,warmup=10"};
    cog_engine_config c = small();
    c.batch = 0;
    c.optimizer = "sgd:rate=0.1";
    c.max_amplification = 1e9;
    c.stragglers = "exp:mean=0.001";
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        cog_report exact, report;
        c.code = codes[i];
        c.channel = "identity";
        const double expected = loss_after(&c, 150, &exact);
        for (size_t j = 0; j < sizeof(channels) / sizeof(channels[0]); j++) {
            c.channel = channels[j];
            const double loss = loss_after(&c, 150, &report);
            cr_expect_leq(loss, 1.25 * expected, "%s, %s: %g against %g", codes[i], channels[j],
                          loss, expected);
            cr_expect_lt(report.bytes_up, exact.bytes_up, "%s, %s", codes[i], channels[j]);
        }
    }
}

Test(predict_descent, runs_repeat_over_threads_and_downlinks) {
    static const char *const channels[] = {"topk:ratio=0.1,predict=linear",
                                           "identity:predict=temporal,threshold=0.2",
                                           "topk:ratio=0.1,feedback=1,momentum=0.9"};
    for (size_t j = 0; j < 3; j++) {
        cog_engine_config a = small(), b;
        a.channel = channels[j];
        a.code = "lwpd:wait=8";
        b = a;
        b.transport = "threads";
        b.downlink = "fp32";
        expect_same_run(&a, &b, 15);
    }
}

Test(predict_descent, amplifying_codes_refuse_predictions_that_may_stand) {
    cog_engine_config c = small();
    cog_engine *e = NULL;
    c.code = "crc:stragglers=6";
    c.max_amplification = 2;
    c.channel = "identity:predict=temporal";
    cr_expect_eq(cog_engine_create(&c, &e), COG_ERR_ARGUMENT);
    c.channel = "identity:predict=temporal,trigger=always";
    cr_expect_eq(cog_engine_create(&c, &e), COG_OK, "%s", cog_last_error());
    cog_engine_destroy(e);
}
