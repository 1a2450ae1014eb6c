/* code_solve.h - workspace of least-squares decoding. */
#ifndef COG_HOST_CODE_SOLVE_H
#define COG_HOST_CODE_SOLVE_H

typedef struct cog_solver cog_solver;

void cog_solver_close(cog_solver *solver); /* accepts NULL and half-built ones */

#endif
