/* optimizer.h - one step of the parameters along a gradient, element by element.
 *
 *   sgd:rate=0.1                     theta -= rate g
 *       with inside=1 the rate is taken before a message is compressed (COCO-EF): workers scale
 *       theirs by it, and the step is theta -= g
 *   momentum:rate=0.1,beta=0.9       m = beta m + g;  theta -= rate m
 *   adam:rate=0.001,beta1=,beta2=,epsilon=   Kingma & Ba 2015, with bias correction
 *   onebit-adam:warmup=100, and the keys of adam   1-bit Adam (Tang et al. 2021): Adam for `warmup`
 *       rounds; from then on v stays, messages carry momentum, and what is decoded becomes m
 *   each with decay=constant|inverse|inverse-sqrt|cosine|step, scale=S (rounds): in round r the
 *       rate is rate, rate/(1+r/S), rate/sqrt(1+r/S), rate (1+cos(pi min(r/S,1)))/2,
 *       rate 10^-floor(r/S)
 *
 * A step is a function of (round, state, gradient) alone, with fixed rounding, so every replica
 * that makes the same steps holds the same bits. That is what the exact downlink relies on.
 */
#ifndef COG_HOST_OPTIMIZER_H
#define COG_HOST_OPTIMIZER_H

#include "device.h"

struct cog_kernel_step; /* kernels.h */

typedef struct cog_optimizer cog_optimizer;

/* For listings: the name of optimizer i, NULL past the last, and the keys it asks for. */
const char *cog_optimizer_describe(int i, cog_spec *spec);

/* For n parameters on `device`. */
cog_status cog_optimizer_open(const char *spec, cog_device *device, int64_t n, cog_optimizer **out);
void cog_optimizer_close(cog_optimizer *optimizer); /* accepts NULL */

/* Entries of a zero gradient leave parameters and state alone (plain SGD). */
bool cog_optimizer_is_sparse(const cog_optimizer *optimizer);

/* What workers multiply their messages of `round` by: the rate where it is taken inside, else 1. */
double cog_optimizer_message_scale(const cog_optimizer *optimizer, int64_t round);
/* The share b of momentum in the messages of `round`, which are then b m + (1 - b) g; 0 for none.
 */
double cog_optimizer_message_momentum(const cog_optimizer *optimizer, int64_t round);
/* Do messages ever carry momentum? Then workers have to know m. */
bool cog_optimizer_sends_momentum(const cog_optimizer *optimizer);
/* Is the rate taken before messages are compressed? */
bool cog_optimizer_scales_messages(const cog_optimizer *optimizer);

/* State vectors besides the parameters, n floats each, contiguous. */
enum { COG_OPTIMIZER_MAX_STATE = 2 };
int cog_optimizer_n_state(const cog_optimizer *optimizer);
float *cog_optimizer_state(cog_optimizer *optimizer);

/* What a device needs to know of the step of `round`; the state is cog_optimizer_state(). */
void cog_optimizer_coefficients(const cog_optimizer *optimizer, int64_t round,
                                struct cog_kernel_step *out);

/* Step parameters [first, first + count) of `params` [n] along g[count] in `round`. */
cog_status cog_optimizer_step(cog_optimizer *optimizer, int64_t round, int64_t first, int64_t count,
                              const float *g, float *params);

/* Plain SGD on a part of the parameters: step the listed parameters along g[position], and set
 * g[position] to 0. */
void cog_optimizer_step_at(cog_optimizer *optimizer, int64_t round, int64_t n_positions,
                           const int64_t *position, float *g, float *params);

#endif
