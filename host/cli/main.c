/* main.c - the command `cograd`: finds the subcommand. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cograd/cograd.h"
#include "cmd_code.h"
#include "commands.h"
#include "complain.h"
#include "progress.h"

typedef struct subcommand {
    const char *name;
    const char *invocation; /* argv[0], and the beginning of its complaints */
    int (*run)(int argc, char **argv);
    const char *summary;
} subcommand;

static int help(int argc, char **argv);

static const subcommand subcommands[] = {
    {"train", "cograd train", cog_cmd_train, "train a model with coded, compressed gradients"},
    {"compare", "cograd compare", cog_cmd_compare, "train it with several schemes, side by side"},
    {"launch", "cograd launch", cog_cmd_launch, "train with worker processes on this machine"},
    {"worker", "cograd worker", cog_cmd_worker, "compute for a server in another process"},
    {"code", "cograd code", cog_cmd_code, "the matrix of a code, and how well it decodes"},
    {"info", "cograd info", cog_cmd_info, "plug-ins and their keys, versions, build options"},
    {"help", "cograd help", help, "this text, or that of a subcommand"},
};
enum { N_SUBCOMMANDS = sizeof(subcommands) / sizeof(subcommands[0]) };

static const subcommand *find(const char *name) {
    for (int i = 0; i < N_SUBCOMMANDS; i++)
        if (strcmp(subcommands[i].name, name) == 0) return &subcommands[i];
    return NULL;
}

static int run(const subcommand *s, int argc, char **argv) {
    argv[0] = (char *)s->invocation;
    program_invocation_name = argv[0];
    program_invocation_short_name = argv[0];
    return s->run(argc, argv);
}

static void print_usage(void) {
    puts("usage: cograd SUBCOMMAND [OPTION...]\n");
    for (int i = 0; i < N_SUBCOMMANDS; i++)
        printf("  %-8s %s\n", subcommands[i].name, subcommands[i].summary);
    puts("\ncograd SUBCOMMAND --help shows its options; cograd --version the version.");
}

static int help(int argc, char **argv) {
    if (argc < 2) {
        print_usage();
        return cog_output_check();
    }
    const subcommand *s = find(argv[1]);
    if (s == NULL || s->run == help)
        return cog_complain(COG_EXIT_USAGE, "there is no subcommand '%s'; see cograd help",
                            argv[1]);
    char *arguments[] = {argv[0], "--help", NULL};
    return run(s, 2, arguments);
}

int main(int argc, char **argv) {
    program_invocation_name = "cograd";
    if (argc < 2) return cog_complain(COG_EXIT_USAGE, "which subcommand? See cograd help");
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        puts("cograd " COG_VERSION);
        return cog_output_check();
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) return help(1, argv);
    const subcommand *s = find(argv[1]);
    if (s == NULL)
        return cog_complain(COG_EXIT_USAGE, "there is no subcommand '%s'; see cograd help",
                            argv[1]);
    return run(s, argc - 1, argv + 1);
}
