/* engine_checks.c - what a run cannot be made of, in words. */
#include "engine_checks.h"

#include <math.h>
#include <string.h>

#include "check.h"

cog_status cog_engine_check_config(const cog_engine_config *c) {
    COG_CHECK(c->train != NULL, COG_ERR_ARGUMENT, "there is no training data");
    COG_CHECK(c->n_workers >= 1 && c->n_workers <= COG_ENGINE_MAX_WORKERS, COG_ERR_ARGUMENT,
              "workers must be in 1..%d, is %d", COG_ENGINE_MAX_WORKERS, c->n_workers);
    COG_CHECK(c->batch >= 0, COG_ERR_ARGUMENT, "batch must not be negative, is %lld",
              (long long)c->batch);
    COG_CHECK(c->staleness >= 0, COG_ERR_ARGUMENT, "staleness must not be negative, is %lld",
              (long long)c->staleness);
    COG_CHECK(c->report_every >= 1, COG_ERR_ARGUMENT, "report-every must be at least 1, is %lld",
              (long long)c->report_every);
    COG_CHECK(c->timeout > 0 && isfinite(c->timeout), COG_ERR_ARGUMENT,
              "timeout must be a positive number of seconds, is %g", c->timeout);
    COG_CHECK(c->max_amplification > 0, COG_ERR_ARGUMENT,
              "max-amplification must be positive, is %g", c->max_amplification);
    return COG_OK;
}

/* Errors of lossy messages come out of the decoder amplified: refuse codes that drown in them. */
cog_status cog_engine_check_amplification(const cog_engine_parts *p) {
    if (cog_channel_is_exact(p->channel)) return COG_OK;
    double amplification;
    COG_TRY(cog_code_amplification(p->code, &amplification));
    COG_CHECK(amplification <= p->config->max_amplification, COG_ERR_ARGUMENT,
              "code '%s' amplifies the errors of channel '%s' %.3g times, more than %g; use an "
              "exact channel or raise max-amplification",
              cog_code_name(p->code), p->channel_spec, amplification, p->config->max_amplification);
    return COG_OK;
}

/* An all-reduce adds gradients and compresses nothing; two momenta, one over the other, are a step
 * some times as long. */
cog_status cog_engine_check_optimizer(const cog_engine_parts *p) {
    const cog_optimizer *o = p->optimizer;
    const double momentum = cog_channel_momentum(p->channel);
    const bool is_special = cog_optimizer_scales_messages(o) || cog_optimizer_sends_momentum(o);
    COG_CHECK(p->code->ops->role != COG_ROLE_ALLREDUCE || !is_special, COG_ERR_ARGUMENT,
              "optimizer '%s' acts before messages are compressed; an all-reduce, as that of code "
              "'%s', has no such messages",
              p->config->optimizer, cog_code_name(p->code));
    COG_CHECK(!cog_optimizer_sends_momentum(o) || strcmp(p->config->downlink, "delta") == 0,
              COG_ERR_ARGUMENT,
              "optimizer '%s' sends momentum, which workers then have to know: it needs the "
              "downlink 'delta', not '%s'",
              p->config->optimizer, p->config->downlink);
    COG_CHECK(!cog_optimizer_sends_momentum(o) || cog_channel_sends_all(p->channel),
              COG_ERR_ARGUMENT,
              "optimizer '%s' divides by a variance that it froze, so every entry of every message "
              "must be near its value, as with sign, bf16 or qsgd; '%s' diverges",
              p->config->optimizer, p->channel_spec);
    COG_CHECK(momentum == 0 || cog_optimizer_n_state(o) == 0, COG_ERR_ARGUMENT,
              "with momentum=%g in the channel the messages carry momentum already; '%s' would add "
              "its own: use sgd",
              momentum, p->config->optimizer);
    return COG_OK;
}
