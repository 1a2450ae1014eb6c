/* code_matrix.h - facts of an encode matrix that do not depend on who answers. */
#ifndef COG_HOST_CODE_MATRIX_H
#define COG_HOST_CODE_MATRIX_H

#include "cograd/analysis.h"

/* Fills everything from n_workers to flat_bound, n_waited and communication excepted. */
cog_status cog_code_matrix_facts(const cog_plan *plan, cog_code_analysis *out);

#endif
