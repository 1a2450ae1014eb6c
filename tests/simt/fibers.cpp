/* fibers.cpp - a stack of its own for every thread of a block, and switches between them. */
#include "machine.h"

#include <memory>
#include <sys/mman.h>
#include <ucontext.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt {

/* Started by setcontext, then switched by GCC's own jumps: no system call, no machine code here. */
struct fiber {
    void *jump[5];
    ucontext_t start;
    char *stack;
    bool fresh;
};
static std::vector<std::unique_ptr<fiber>> fibers;
static std::vector<fiber *> idle;
static void *scheduler_jump[5];

#ifdef __SANITIZE_ADDRESS__
static const void *scheduler_stack;
static size_t scheduler_stack_bytes;
static void leave(void **fake, const void *stack, size_t bytes) {
    __sanitizer_start_switch_fiber(fake, stack, bytes);
}
static void arrive_at_fiber(void *fake) {
    __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_stack_bytes);
}
static void leave_to_scheduler(void **fake) { leave(fake, scheduler_stack, scheduler_stack_bytes); }
static void arrive_at_scheduler(void *fake) {
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}
static void forget_frames(fiber *f) { __asan_unpoison_memory_region(f->stack, STACK_BYTES); }
#else
static void leave(void **, const void *, size_t) {}
static void arrive_at_fiber(void *) {}
static void leave_to_scheduler(void **) {}
static void arrive_at_scheduler(void *) {}
static void forget_frames(fiber *) {}
#endif

[[noreturn]] __attribute__((noinline, no_sanitize("address"))) static void jump(void **to) {
    __builtin_longjmp(to, 1);
}

/* From a thread back to the scheduler, until that resumes the thread. */
__attribute__((noinline)) void wait() {
    void *fake = nullptr;
    leave_to_scheduler(&fake);
    if (__builtin_setjmp(run.current->fiber->jump) == 0) jump(scheduler_jump);
    arrive_at_fiber(fake);
}

/* One fiber runs one thread after another. */
static void fiber_main() {
    arrive_at_fiber(nullptr);
    for (;;) {
        run.request->run(run.request->arguments);
        run.current->state = ENDED;
        wait();
    }
}

static void prepare(fiber *f) {
    getcontext(&f->start);
    f->start.uc_stack.ss_sp = f->stack;
    f->start.uc_stack.ss_size = STACK_BYTES;
    makecontext(&f->start, fiber_main, 0);
    f->fresh = true;
    forget_frames(f);
}

fiber *take_fiber() {
    if (idle.empty()) {
        auto f = std::make_unique<fiber>();
        f->stack = (char *)mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (f->stack == MAP_FAILED) throw std::bad_alloc();
        mprotect(f->stack, 4096, PROT_NONE); /* a stack too small is seen at once */
        prepare(f.get());
        idle.push_back(f.get());
        fibers.push_back(std::move(f));
    }
    fiber *f = idle.back();
    idle.pop_back();
    return f;
}

void give_back(fiber *f) { idle.push_back(f); }

void give_back_abandoned(fiber *f) {
    prepare(f);
    idle.push_back(f);
}

__attribute__((noinline)) void switch_to(fiber *f) {
    void *fake = nullptr;
    leave(&fake, f->stack, STACK_BYTES);
    if (__builtin_setjmp(scheduler_jump) == 0) {
        if (!f->fresh) jump(f->jump);
        f->fresh = false;
        setcontext(&f->start);
    }
    arrive_at_scheduler(fake);
}

uintptr_t stack_of(const fiber *f) { return (uintptr_t)f->stack; }

} // namespace simt
