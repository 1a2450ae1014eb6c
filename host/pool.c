/* pool.c - tasks are handed out by a counter; helpers sleep between loops. */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>

#include "check.h"

/* A helper takes this share of what each would get, so that unequal tasks still level out. */
enum { BATCHES_PER_THREAD = 8 };

struct cog_pool {
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    bool open;
    bool closing;
    int n_threads;
    pthread_t *helpers; /* [n_helpers] */
    int n_helpers;

    cog_task_fn task; /* the loop under way */
    void *argument;
    int n_tasks, next, batch;
    int n_busy; /* threads inside tasks */
};

int cog_pool_cores(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
    return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

/* Takes batches until none is left. The lock is held before and after. */
static void work(cog_pool *pool) {
    pool->n_busy++;
    while (pool->next < pool->n_tasks) {
        const int first = pool->next;
        const int left = pool->n_tasks - first;
        const int end = first + (left < pool->batch ? left : pool->batch);
        const cog_task_fn task = pool->task;
        void *argument = pool->argument;
        pool->next = end;
        pthread_mutex_unlock(&pool->mutex);
        for (int i = first; i < end; i++) task(argument, i);
        pthread_mutex_lock(&pool->mutex);
    }
    if (--pool->n_busy == 0) pthread_cond_signal(&pool->done);
}

static void *help(void *argument) {
    cog_pool *pool = argument;
    pthread_mutex_lock(&pool->mutex);
    while (!pool->closing) {
        if (pool->next < pool->n_tasks)
            work(pool);
        else
            pthread_cond_wait(&pool->work, &pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

static cog_status open_parts(cog_pool *pool) {
    pool->open = pthread_mutex_init(&pool->mutex, NULL) == 0 &&
                 pthread_cond_init(&pool->work, NULL) == 0 &&
                 pthread_cond_init(&pool->done, NULL) == 0;
    COG_CHECK(pool->open, COG_ERR_MEMORY, "no lock for a pool of threads");
    pool->helpers = calloc((size_t)pool->n_threads, sizeof(*pool->helpers));
    COG_CHECK(pool->helpers != NULL, COG_ERR_MEMORY, "no memory for %d threads", pool->n_threads);
    for (; pool->n_helpers < pool->n_threads - 1; pool->n_helpers++)
        COG_CHECK(pthread_create(&pool->helpers[pool->n_helpers], NULL, help, pool) == 0,
                  COG_ERR_MEMORY, "thread %d of %d cannot be started", pool->n_helpers + 2,
                  pool->n_threads);
    return COG_OK;
}

cog_status cog_pool_open(int n_threads, cog_pool **out) {
    COG_CHECK(n_threads >= 1, COG_ERR_ARGUMENT, "a pool of %d threads", n_threads);
    cog_pool *pool = calloc(1, sizeof(*pool));
    COG_CHECK(pool != NULL, COG_ERR_MEMORY, "no memory for a pool of threads");
    pool->n_threads = n_threads;
    const cog_status status = open_parts(pool);
    if (status != COG_OK) {
        cog_pool_close(pool);
        return status;
    }
    *out = pool;
    return COG_OK;
}

void cog_pool_close(cog_pool *pool) {
    if (pool == NULL) return;
    if (pool->open) {
        pthread_mutex_lock(&pool->mutex);
        pool->closing = true;
        pthread_cond_broadcast(&pool->work);
        pthread_mutex_unlock(&pool->mutex);
        for (int i = 0; i < pool->n_helpers; i++) pthread_join(pool->helpers[i], NULL);
        pthread_cond_destroy(&pool->done);
        pthread_cond_destroy(&pool->work);
        pthread_mutex_destroy(&pool->mutex);
    }
    free(pool->helpers);
    free(pool);
}

void cog_pool_run(cog_pool *pool, int n_tasks, cog_task_fn task, void *argument) {
    if (n_tasks <= 1 || pool->n_helpers == 0) { /* waking somebody would cost more */
        for (int i = 0; i < n_tasks; i++) task(argument, i);
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    const int share = n_tasks / (pool->n_threads * BATCHES_PER_THREAD);
    pool->task = task;
    pool->argument = argument;
    pool->batch = share > 1 ? share : 1;
    pool->next = 0;
    pool->n_tasks = n_tasks;
    pthread_cond_broadcast(&pool->work);
    work(pool);
    while (pool->n_busy > 0) pthread_cond_wait(&pool->done, &pool->mutex);
    pool->n_tasks = 0;
    pthread_mutex_unlock(&pool->mutex);
}
