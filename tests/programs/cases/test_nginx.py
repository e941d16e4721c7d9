"""nginx: a master with two forked workers, files, gzip, rewrites, a proxy to itself, reload under load"""

import grp
import gzip
import hashlib
import http.client
import os
import pwd
import signal
import socket

import processes

NEEDS = {"/usr/sbin/nginx": "nginx-light"}
FILES = 40
CONFIG = """
daemon off;
{user}
worker_processes 2;
pid {work}/nginx.pid;
error_log {logs}/error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log {logs}/access.log;
    client_body_temp_path {temporary}/body;
    proxy_temp_path {temporary}/proxy;
    fastcgi_temp_path {temporary}/fastcgi;
    uwsgi_temp_path {temporary}/uwsgi;
    scgi_temp_path {temporary}/scgi;
    types {{ text/plain txt; }}
    server {{
        listen 127.0.0.1:{port};
        root {root};
        gzip on;
        gzip_min_length 100;
        gzip_types text/plain;
        location /moved/ {{ rewrite ^/moved/(.*)$ /$1 last; }}
        location /proxied/ {{ proxy_pass http://127.0.0.1:{port}/; proxy_set_header Accept-Encoding ""; }}
        location /generation {{ return 200 "{generation}\\n"; }}
    }}
}}
"""


def content(i):
    return b"".join(b"file %d line %d\n" % (i, k) for k in range(1 + i * i * 3))


def get(connection, path, headers=None):
    connection.request("GET", path, headers=headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read(), answer


def client(t, port, number):
    """Requests of one client over kept-alive connections."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for n in range(150):
        i = (number * 7 + n) % FILES
        path = ["/", "/moved/", "/proxied/"][n % 3] + f"file{i}.txt"
        try:
            status, body, answer = get(connection, path, {"Accept-Encoding": "gzip"})
        except (http.client.RemoteDisconnected, ConnectionError):
            # A worker that a reload replaces may close an idle connection; once more, on a new one, must do.
            connection.close()
            status, body, answer = get(connection, path, {"Accept-Encoding": "gzip"})
        if answer.getheader("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        t.equal(status, 200, f"status of {path}")
        t.equal(hashlib.sha256(body).hexdigest(), hashlib.sha256(content(i)).hexdigest(), f"content of {path}")
    t.equal(get(connection, "/absent")[0], 404, "status of a file that is not there")
    connection.close()


def test_nginx(t):
    root = t.folder("root")
    for i in range(FILES):
        t.write(f"root/file{i}.txt", content(i))
    worker_user = "nobody" if os.geteuid() == 0 else None
    logs = t.folder("logs")
    temporary = t.folder("temporary", worker_user)
    # nginx takes over a listening socket named in NGINX: so the port is ours from the beginning, with no race for it.
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    port = listener.getsockname()[1]

    def configure(generation):
        group = worker_user and grp.getgrgid(pwd.getpwnam(worker_user).pw_gid).gr_name
        user = f"user {worker_user} {group};" if worker_user else ""
        return t.write("nginx.conf", CONFIG.format(work=t.work, root=root, logs=logs, temporary=temporary, port=port,
                                                   generation=generation, user=user))

    server = t.start(["/usr/sbin/nginx", "-p", t.work, "-c", configure(1), "-e", os.path.join(logs, "start.log")],
                     env={"NGINX": f"{listener.fileno()};"}, pass_fds=(listener.fileno(),))
    listener.close()
    t.active(server.pid, "nginx")

    def workers():
        assert server.poll() is None, f"nginx ended with {server.returncode}"
        return [pid for pid in processes.descendants(server.pid) if not processes.gone(pid)]

    t.until(lambda: len(workers()) == 2, "nginx's two workers")
    first_workers = workers()
    for pid in first_workers:
        t.active(pid, "nginx's worker")
    t.parallel(6, lambda n: client(t, port, n))()

    # A reload replaces the workers while requests come in.
    wait = t.parallel(6, lambda n: client(t, port, n))
    configure(2)
    server.send_signal(signal.SIGHUP)

    def generation():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        body = get(connection, "/generation")[1]
        connection.close()
        return body

    t.until(lambda: generation() == b"2\n", "the new configuration")
    wait()
    t.until(lambda: not set(workers()) & set(first_workers), "the old workers to go")
    t.stop(server, signal.SIGQUIT)
    # The workers gave up the rights to open root's pool: they keep what they have and take no more of it.
    t.expect_message(rb"context \S+: process \d+ cannot take memory from it: EACCES .*; going on with private memory\n",
                     "workers are another user")
    t.expect_message(rb"pool \S+: process \d+ cannot take more of it: EACCES .*; going on with private memory\n",
                     "workers of another user")
    for name in os.listdir(logs):
        with open(os.path.join(logs, name), "rb") as file:
            log = file.read()
        t.scan(name, log)
        assert b"[alert]" not in log and b"[emerg]" not in log, f"{name}: {log[:600]!r}"
