/* channel_parts.h - what the files of a channel share: channel.c and channel_*.c. */
#ifndef COG_HOST_CHANNEL_PARTS_H
#define COG_HOST_CHANNEL_PARTS_H

#include "channel.h"
#include "predict.h"

/* The last byte before the payload of a framed message: is there one, and which of the channel's
 * formats is it of? */
enum { COG_FLAG_PAYLOAD = 1, COG_FLAG_FORMAT = 2 };

/* Formats: that of the wire, fp32 of warm-ups, and those of a ramp, which sends a quarter of the
 * entries, then a sixteenth, a 64th and a 256th, or the wire's share where that is more. */
enum { COG_FORMAT_WIRE, COG_FORMAT_FP32, COG_FORMAT_RAMP, COG_RAMP_STEPS = 4 };
enum { COG_FORMATS = COG_FORMAT_RAMP + COG_RAMP_STEPS };

/* Bytes kept free before a payload for the header that is sent with it: the payload stays aligned
 * as a device allocates. */
enum { COG_FRAME_ROOM = 128 };

struct cog_channel {
    cog_quantizer quantizer; /* of the wire */
    cog_quantizer fp32;      /* of warm-ups, and of dense messages handed out */
    cog_quantizer step[COG_RAMP_STEPS];
    const cog_quantizer_kernels *kernels;
    cog_device *device; /* where the terms lie */
    cog_device *packer; /* where they are packed: `device`, or a CPU of its own */
    cog_mirror *mirror; /* NULL without predictor */
    bool feedback;
    bool framed;     /* with flags, and coefs, before the payload */
    bool dense;      /* the receiver hands out a vector */
    bool is_exact;   /* but for rounding */
    bool pending;    /* a message waits to be settled */
    bool fired;      /* it has a payload */
    bool ahead;      /* the state is that after a message which was not accepted */
    cog_status lost; /* why the last message is not in the predictor's memory: no more can follow */
    double momentum; /* 0: none */
    int64_t warmup;  /* rounds */
    int64_t ramp;    /* rounds after the warm-up */
    int64_t round;

    float *error;          /* [n] sender with feedback: what is still owed to the server */
    float *residual;       /* [n] sender: the error once the pending message is accepted */
    void *state, *scratch; /* of the sender, where it packs */
    void *frame;           /* room for a header, then the payload */
    void *payload;         /* within frame */
    void *settled;         /* host: the state before the pending message */
    /* The payload, sent or received; where a sender packs on the CPU NULL. With a header that of
     * another device has COG_FRAME_ROOM before it. */
    void *host;
    void *spare;    /* receiver: where the next payload is checked */
    size_t bytes;   /* of the payload in use */
    size_t fetched; /* sender that packs on another device: of its last payload, or a header */
    bool received;

    /* host memory, where needed */
    float *message;                  /* [n padded] sender: the terms in one vector */
    float *incoming;                 /* [n] sender on another device: a term on its way */
    float *velocity, *next_velocity; /* [n padded] momentum, and once the message is accepted */
    int64_t *position;               /* [max_positions] */
    float *estimate, *next_estimate; /* [n] dense: the message as it stands */
};

/* The quantizer of a format; NULL for one that is not in use. */
const cog_quantizer *cog_channel_format(const cog_channel *c, int format);
/* Of the message that is packed now. */
int cog_channel_format_now(const cog_channel *c);
size_t cog_channel_header_bytes(const cog_channel *c);
/* Of the header that may lie before a payload. */
static inline size_t cog_channel_room(const cog_channel *c) {
    return c->framed ? COG_FRAME_ROOM : 0;
}
cog_status cog_channel_host_memory(size_t bytes, void **out);
/* n floats set to zero on the packer, padded so that whole rows of a tile may be written. */
cog_status cog_channel_vector(cog_channel *c, float **out);

cog_status cog_channel_open_sender(cog_channel *c);
cog_status cog_channel_open_receiver(cog_channel *c);

/* expected + decoded, or expected alone without payload: the same arithmetic at both ends. */
cog_status cog_channel_estimate(cog_channel *c, const cog_quantizer *q, const void *payload,
                                float *out);

#endif
