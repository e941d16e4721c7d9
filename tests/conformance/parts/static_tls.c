/* A library with initial-exec thread-local storage, which takes room in the static TLS reserve when
 * it is opened. Built several times for the static TLS program. Crash rule: none. */
static __thread char t_bytes[96] __attribute__((tls_model("initial-exec")));

/* Uses the room and says how much there is. */
int tls_size(void) {
    for (unsigned i = 0; i < sizeof t_bytes; ++i) t_bytes[i]++;
    return (int)sizeof t_bytes;
}
