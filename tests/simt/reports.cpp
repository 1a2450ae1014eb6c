/* reports.cpp - sentences about errors, counters, and the lock. */
#include "machine.h"

#include <cstdarg>
#include <map>

namespace simt {

constexpr int SENTENCES_OF_A_KIND = 3; /* a launch; the others only count */
constexpr size_t MAX_TEXT = 16 << 10;

simt_counters counters;
static uint64_t n_reports;
static std::string sentences;
static std::map<const void *, int> said; /* by format, in this launch */
static std::recursive_mutex all_state;

lock::lock() : guard(all_state) {}

const char *text(const char *format, ...) {
    static char buffers[8][800];
    static int turn;
    char *buffer = buffers[turn++ % 8];
    va_list list;
    va_start(list, format);
    vsnprintf(buffer, sizeof(buffers[0]), format, list);
    va_end(list);
    return buffer;
}

static const char *text_of(const uint3 &v) { return text("(%u, %u, %u)", v.x, v.y, v.z); }

static void report_list(const char *format, va_list list) {
    n_reports++;
    if (said[format]++ >= SENTENCES_OF_A_KIND || sentences.size() > MAX_TEXT) return;
    char sentence[800];
    vsnprintf(sentence, sizeof(sentence), format, list);
    if (run.request != nullptr)
        sentences += text("kernel %s, block %s", run.request->kernel, text_of(simt_block_index));
    if (run.current != nullptr) sentences += text(", thread %s", text_of(simt_thread_index));
    if (run.request != nullptr) sentences += ": ";
    sentences += std::string(sentence) + "\n";
}

void report(const char *format, ...) {
    va_list list;
    va_start(list, format);
    report_list(format, list);
    va_end(list);
}

void fail(const char *format, ...) {
    va_list list;
    va_start(list, format);
    report_list(format, list);
    va_end(list);
    run.aborted = true;
    for (;;) wait();
}

void forget_kinds() { said.clear(); }
uint64_t report_count() { return n_reports; }

} // namespace simt

using namespace simt;

void simt_reset_counters(void) {
    const lock one_at_a_time;
    counters = {};
}
void simt_read_counters(simt_counters *out) {
    const lock one_at_a_time;
    *out = counters;
}
uint64_t simt_report_count(void) {
    const lock one_at_a_time;
    return n_reports;
}
const char *simt_report_text(void) {
    const lock one_at_a_time;
    return sentences.c_str();
}
void simt_reset_reports(void) {
    const lock one_at_a_time;
    n_reports = 0;
    said.clear();
    sentences.clear();
}
