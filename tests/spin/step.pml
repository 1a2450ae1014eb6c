/* step.pml - the protocol of a step, for the model checker Spin: every order in which a server and
 * its workers can ask, answer, be late, be lost and come back.
 *
 * It mirrors host/server.c, host/server_fate.c and host/transports/zmq_peers.c; an inline has the
 * name of the function that it stands for. The claims, as assertions where they must hold:
 *
 *     once    an answer is applied at most once
 *     bound   no answer older than BOUND rounds is applied
 *     life    once a lost worker is replaced, nothing that the lost one had said is taken any more
 *     truth   what PARAMS tells a worker about its last answer, used or not, is so
 *     asks    nobody is asked who owes an answer already, or is in the list of those to ask
 *     ends    the server stops nowhere but after its last round or with a verdict, and there are no
 *             cycles: Spin's invalid end states and non-progress cycles
 *
 * The wire is worse than ZeroMQ: it delays without limit, lets frames of a worker's old and new
 * connection overtake each other, and may deliver one message a second time, whenever. Frames bear
 * no numbers here, as the server must be right without. A worker has one message (`due` stands for
 * the count it owes, too); NEED of N make an update; old ones count, as in kasync. Worker 0 may be
 * lost and come back, the other may be lost for good. That a server waits for joiners, or does not,
 * is decided when it matters. A caller that tries again after a deadline goes on waiting: here, a
 * wait that has not ended.
 *
 * With -DPATIENT there are neither deadlines nor silent workers: rounds must end by themselves.
 * Each FAULT_... takes one precaution away; check_spin.py lists them, and what notices. */
#define N 2
#ifndef NEED
#define NEED 1
#endif
#define ROUNDS 3
#define BOUND 1
#define LIVES 2 /* connections that worker 0 makes in a run, at most */

#define BIT(of_life, of_round) (1 << ((of_life) * ROUNDS + (of_round)))

mtype = { HERE, MESSAGE, DECLINE };

/* Pipes: worker 0's first and second connection, and that of worker 1. */
#define PIPES 3
#define PIPE(w, its_life) ((w) == 0 -> (its_life) : 2)
#define WORKER(pipe) ((pipe) == 2 -> 1 : 0)
#define LIFE(pipe) ((pipe) == 1 -> 1 : 0)

chan up[PIPES] = [1] of { mtype, byte };  /* kind, round */
chan down[PIPES] = [0] of { byte, bool }; /* PARAMS: round, was the last answer used */
bool ended[PIPES];                        /* connections that did */
byte used[N];                             /* BIT(life, round) of answers that were applied */
bool over;                                /* the server's last word is said */

/* ------------------------------------------------------------------ the server */

/* What the transport knows of a worker. */
bool present[N], leaving[N];
byte life[N];

/* What the engine knows of it. */
byte answers[N];
bool due[N], idle[N], gone[N], missing[N], arrived[N], renewed[N], accepted[N];
byte said[N], said_life[N]; /* of what has arrived: the round and the life that it is of */
byte round, n_arrived, n_missing, n_gone;

mtype copy; /* what the wire keeps */
byte copy_round, copy_pipe;
bool copied;

/* cog_server_expects */
#ifdef FAULT_any_round
#define EXPECTS (due[w])
#elif defined(FAULT_any_copy)
#define EXPECTS (answers[w] == its_round)
#else
#define EXPECTS (due[w] && answers[w] == its_round)
#endif

/* A worker that has gone meanwhile does not hear it. */
inline ask() {
    assert(!due[w] && !idle[w]); /* asks */
    due[w] = true;
    answers[w] = round;
    if
    :: present[w] && !leaving[w] -> down[PIPE(w, life[w])]!round, accepted[w]
    :: else
    fi;
    accepted[w] = false
}

inline after_message(was_useful) {
    if
    :: due[w]
    :: !due[w] && (was_useful) -> idle[w] = true
#ifdef FAULT_not_asked_again
    :: !due[w] && !(was_useful) -> idle[w] = true
#else
    :: !due[w] && !(was_useful) -> again = true
#endif
    fi
}

inline miss() {
    n_missing = n_missing + (missing[w] -> 0 : 1);
    missing[w] = true
}

inline take_message() {
    if
#ifdef FAULT_no_bound
    :: arrived[w] ->
#else
    :: arrived[w] || round - its_round > BOUND ->
#endif
       after_message(false)
    :: else ->
       assert(LIFE(pipe) == life[w]); /* life */
       renewed[w] = false;
       arrived[w] = true;
       n_arrived++;
       said[w] = its_round;
       said_life[w] = LIFE(pipe);
       after_message(true)
    fi
}

inline take_decline() {
    if
    :: its_round == round -> miss(); after_message(true)
    :: else -> after_message(false)
    fi
}

/* What is not expected is refused and counted. */
inline take() {
    if
    :: !EXPECTS
    :: EXPECTS && kind == MESSAGE -> due[w] = false; take_message()
    :: EXPECTS && kind == DECLINE -> due[w] = false; take_decline()
    fi
}

inline forget_worker() {
    due[w] = false;
    accepted[w] = false;
    idle[w] = false
}

inline lose() {
    gone[w] = true;
    n_gone++;
    forget_worker();
#ifndef FAULT_losses_not_missed
    if
    :: arrived[w]
    :: !arrived[w] -> miss()
    fi
#endif
}

inline take_join() {
    n_gone = n_gone - gone[w];
    gone[w] = false;
#ifndef FAULT_debts_inherited
    forget_worker();
#endif
    n_missing = n_missing - missing[w];
    missing[w] = false;
#ifndef FAULT_not_renewed
    renewed[w] = true;
#endif
    after_message(arrived[w])
}

/* The transport: frames are the engine's only if they come over the connection of their worker. */
#ifdef FAULT_any_life
#define KNOWN true
#else
#define KNOWN (present[w] && life[w] == LIFE(pipe))
#endif

/* A HERE is taken once the connection before it is known to have ended. */
inline sort_out() {
    w = WORKER(pipe);
    if
    :: kind == HERE ->
       present[w] = true;
       leaving[w] = false;
       life[w] = LIFE(pipe);
       take_join()
    :: kind != HERE && KNOWN -> take()
    :: kind != HERE && !KNOWN
    fi;
    kind = 0;
    its_round = 0;
    pipe = 0
}

inline keep_a_copy() {
    if
    :: kind == MESSAGE && pipe != 2 && !copied ->
       copied = true;
       copy = kind;
       copy_round = its_round;
       copy_pipe = pipe
    :: true
    fi
}

inline deliver_copy() {
    kind = copy;
    its_round = copy_round;
    pipe = copy_pipe;
    copy = 0;
    copy_round = 0;
    copy_pipe = 0
}

/* Killed, frozen or cut off: at any time. Where nobody's patience ends, worker 0 comes back. */
#ifdef PATIENT
#define MAY_END(which) (which == 1 || life[0] + 1 < LIVES)
#else
#define MAY_END(which) true
#endif
#define CAN_END(which) (present[which] && !leaving[which] && MAY_END(which))

inline end_connection(which) {
    leaving[which] = true;
    ended[PIPE(which, life[which])] = true
}

inline take_loss(which) {
    w = which;
    leaving[w] = false;
    present[w] = false;
    lose()
}

#define HOPELESS (n_gone == N)
#define READY (!HOPELESS && (n_arrived >= NEED || n_arrived + n_missing == N))

/* One turn of wait_for_enough: a frame, a copy of one, or news of a connection. */
inline wait() {
    if
    :: nempty(up[0]) -> up[0]?kind, its_round; pipe = 0; keep_a_copy()
    :: nempty(up[1]) -> up[1]?kind, its_round; pipe = 1; keep_a_copy()
    :: nempty(up[2]) -> up[2]?kind, its_round; pipe = 2
    :: copy != 0 -> deliver_copy()
    :: CAN_END(0) -> end_connection(0)
    :: CAN_END(1) -> end_connection(1)
    :: leaving[0] -> take_loss(0)
    :: leaving[1] -> take_loss(1)
#if !defined(PATIENT) && !defined(FAULT_no_deadline)
    :: goto verdict /* the deadline */
#endif
    fi;
    if
    :: kind != 0 -> sort_out()
    :: kind == 0
    fi;
    if
    :: again -> again = false; ask()
    :: !again
    fi
}

/* Of what has arrived, some gets no weight. */
inline settle() {
    w = 0;
    do
    :: w == N -> w = 0; break
    :: w < N && arrived[w] ->
       if
       :: assert((used[w] & BIT(said_life[w], said[w])) == 0); /* once */
          assert(round - said[w] <= BOUND);                    /* bound */
          used[w] = used[w] | BIT(said_life[w], said[w]);
          accepted[w] = !renewed[w]
       :: true
       fi;
       arrived[w] = false;
       said[w] = 0;
       said_life[w] = 0
    :: w < N && !arrived[w] ->
       missing[w] = gone[w];
       w++
    od;
    n_arrived = 0;
    n_missing = n_gone
}

inline ask_idle_workers() {
    w = 0;
    do
    :: w == N -> w = 0; break
    :: w < N && idle[w] -> idle[w] = false; ask()
    :: w < N && !idle[w] -> w++
    od
}

active proctype server() {
    byte w, pipe, its_round;
    mtype kind;
    bool again;
    d_step {
        present[0] = true;
        present[1] = true;
        idle[0] = true;
        idle[1] = true
    };
    do
    :: round == ROUNDS -> break
    :: round < ROUNDS ->
       atomic { ask_idle_workers() };
       do
       :: HOPELESS -> goto verdict /* cog_server_check_hope */
       :: READY -> break
       :: atomic { !READY -> wait(); w = 0 }
       od;
       atomic { settle(); round++ }
    od;
verdict:
    over = true
}

/* ------------------------------------------------------------------ a worker */

/* It answers at once: the wire takes its time. */
active [N] proctype worker() {
    byte me = _pid - 1, its_life, its_round, last;
    bool told, answered;
end:
    do
    :: atomic {
           down[PIPE(me, its_life)]?its_round, told ->
           assert(told == (answered && (used[me] & BIT(its_life, last)) != 0)); /* truth */
           told = false;
           answered = false;
           last = 0;
           if
           :: up[PIPE(me, its_life)]!MESSAGE, its_round;
              answered = true;
              last = its_round
           :: up[PIPE(me, its_life)]!DECLINE, its_round
#ifndef PATIENT
           :: true
#endif
           fi;
           its_round = 0
       }
    :: atomic {
           !over && me == 0 && its_life + 1 < LIVES && ended[PIPE(me, its_life)] ->
           its_life++;
           answered = false;
           last = 0;
           up[PIPE(me, its_life)]!HERE, 0
       }
    od
}
