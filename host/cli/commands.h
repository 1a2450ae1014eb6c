/* commands.h - the subcommands. Each takes its own argv, argv[0] being "cograd NAME", and returns
 * the exit status. */
#ifndef COG_CLI_COMMANDS_H
#define COG_CLI_COMMANDS_H

int cog_cmd_train(int argc, char **argv);
int cog_cmd_compare(int argc, char **argv);
int cog_cmd_launch(int argc, char **argv);
int cog_cmd_worker(int argc, char **argv);
int cog_cmd_info(int argc, char **argv);

#endif
