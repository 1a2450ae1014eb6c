/* zmq_curve.c - files of one line each: what the key is, and the key as Z85 text. */
#include "zmq_curve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "../check.h"

static const char secret_word[] = "cograd-secret-key", public_word[] = "cograd-public-key";

static cog_status write_line(int fd, const char *word, const char *key) {
    char line[128];
    const int n = snprintf(line, sizeof(line), "%s %s\n", word, key);
    const bool written = write(fd, line, (size_t)n) == n;
    explicit_bzero(line, sizeof(line));
    const bool closed = close(fd) == 0;
    return written && closed ? COG_OK : COG_ERR_IO;
}

/* It appears whole under its name, and takes no other's place. */
static cog_status write_key(const char *path, mode_t mode, const char *word, const char *key) {
    char partial[4096];
    const int n = snprintf(partial, sizeof(partial), "%s.%ld", path, (long)getpid());
    COG_CHECK(n < (int)sizeof(partial), COG_ERR_ARGUMENT, "the path of a key is too long");
    const int fd = open(partial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    COG_CHECK(fd >= 0, COG_ERR_IO, "cannot make the key '%s': %s", path, strerror(errno));
    const bool made = write_line(fd, word, key) == COG_OK && link(partial, path) == 0;
    const int error = errno;
    unlink(partial);
    COG_CHECK(made, COG_ERR_IO, "cannot write the key '%s': %s", path, strerror(error));
    return COG_OK;
}

static cog_status read_key(const char *path, const char *word, bool only_mine, char *key) {
    char line[128] = "", found[32] = "";
    struct stat about;
    FILE *file = fopen(path, "re");
    COG_CHECK(file != NULL, COG_ERR_IO, "cannot read the key '%s': %s", path, strerror(errno));
    const bool known = fstat(fileno(file), &about) == 0;
    const bool read = fgets(line, sizeof(line), file) != NULL;
    fclose(file);
    COG_CHECK(known && (!only_mine || (about.st_mode & 077) == 0), COG_ERR_ARGUMENT,
              "others may read the secret key '%s': chmod 600 is missing", path);
    char text[64] = "";
    const int fields = read ? sscanf(line, "%31s %63s", found, text) : 0;
    uint8_t bits[sizeof(text)];
    const bool good = fields == 2 && strcmp(found, word) == 0 &&
                      strlen(text) == COG_ZMQ_KEY_CHARS && zmq_z85_decode(bits, text) != NULL;
    explicit_bzero(bits, sizeof(bits));
    if (good) memcpy(key, text, COG_ZMQ_KEY_CHARS + 1);
    explicit_bzero(line, sizeof(line));
    explicit_bzero(text, sizeof(text));
    COG_CHECK(good, COG_ERR_FORMAT, "'%s' must hold one line: %s and %d characters of Z85", path,
              word, COG_ZMQ_KEY_CHARS);
    return COG_OK;
}

static cog_status make_secret(const char *path) {
    char public_key[COG_ZMQ_KEY_CHARS + 1], secret[COG_ZMQ_KEY_CHARS + 1];
    COG_CHECK(zmq_curve_keypair(public_key, secret) == 0, COG_ERR_TRANSPORT, "no keys: %s",
              zmq_strerror(zmq_errno()));
    const cog_status status = write_key(path, 0600, secret_word, secret);
    explicit_bzero(secret, sizeof(secret));
    return status;
}

/* The public key follows from the secret one, so its file can be made again at any time. With that
 * of another no worker would come. */
static cog_status publish(const char *path, const char *secret) {
    char beside[4096], public_key[COG_ZMQ_KEY_CHARS + 1], there[COG_ZMQ_KEY_CHARS + 1];
    const int n = snprintf(beside, sizeof(beside), "%s.pub", path);
    COG_CHECK(n < (int)sizeof(beside), COG_ERR_ARGUMENT, "the path of a key is too long");
    COG_CHECK(zmq_curve_public(public_key, secret) == 0, COG_ERR_FORMAT,
              "the secret key '%s' is none", path);
    if (access(beside, F_OK) != 0) COG_TRY(write_key(beside, 0644, public_word, public_key));
    COG_TRY(read_key(beside, public_word, false, there));
    COG_CHECK(strcmp(there, public_key) == 0, COG_ERR_FORMAT,
              "'%s' does not belong to the secret key '%s': once it is removed, it is made anew",
              beside, path);
    return COG_OK;
}

cog_status cog_zmq_curve_read(const char *path, bool is_server, cog_zmq_curve *out) {
    COG_CHECK(zmq_has("curve"), COG_ERR_UNSUPPORTED,
              "curve=%s: this ZeroMQ was built without CURVE", path);
    *out = (cog_zmq_curve){.on = true, .is_server = is_server};
    if (!is_server) return read_key(path, public_word, false, out->key);
    if (access(path, F_OK) != 0) COG_TRY(make_secret(path));
    COG_TRY(read_key(path, secret_word, true, out->key));
    return publish(path, out->key);
}

static bool set_key(void *socket, int option, const char *key) {
    return zmq_setsockopt(socket, option, key, COG_ZMQ_KEY_CHARS + 1) == 0;
}

bool cog_zmq_curve_apply(void *socket, const cog_zmq_curve *curve) {
    char public_key[COG_ZMQ_KEY_CHARS + 1], secret[COG_ZMQ_KEY_CHARS + 1];
    const int yes = 1;
    if (!curve->on) return true;
    if (curve->is_server)
        return zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &yes, sizeof(yes)) == 0 &&
               set_key(socket, ZMQ_CURVE_SECRETKEY, curve->key);
    const bool set = zmq_curve_keypair(public_key, secret) == 0 &&
                     set_key(socket, ZMQ_CURVE_SERVERKEY, curve->key) &&
                     set_key(socket, ZMQ_CURVE_PUBLICKEY, public_key) &&
                     set_key(socket, ZMQ_CURVE_SECRETKEY, secret);
    explicit_bzero(secret, sizeof(secret));
    return set;
}
