/* main.c - the command `cograd`: one subcommand a file. */
#include <stdio.h>
#include <string.h>

#include "cograd/cograd.h"

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("cograd " COG_VERSION);
        return 0;
    }
    fputs("usage: cograd --version\n", stderr);
    return 2;
}
