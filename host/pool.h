/* pool.h - a few threads that share a loop of independent tasks. */
#ifndef COG_HOST_POOL_H
#define COG_HOST_POOL_H

#include "cograd/status.h"

typedef struct cog_pool cog_pool;

typedef void (*cog_task_fn)(void *argument, int task);

/* The caller's thread and n_threads - 1 more. */
cog_status cog_pool_open(int n_threads, cog_pool **out);
void cog_pool_close(cog_pool *pool); /* accepts NULL */

/* Call task(argument, i) once for every i in 0 .. n_tasks - 1, in any order and on any thread;
 * return when all are done. */
void cog_pool_run(cog_pool *pool, int n_tasks, cog_task_fn task, void *argument);

/* Cores this process may use, at least 1. */
int cog_pool_cores(void);

#endif
