/* cmd_code.h - `cograd code`: what a gradient code is worth. */
#ifndef COG_CLI_CMD_CODE_H
#define COG_CLI_CMD_CODE_H

/* argv[0] is "cograd code". Returns the exit status: 0, 1 when something failed, 2 when
 * what was asked for makes no sense; one sentence on standard error for the last two. */
int cog_cmd_code(int argc, char **argv);

#endif
