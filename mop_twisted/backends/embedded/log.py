"""hedge"""

import os
import threading
import time
import zlib
from queue import Queue

import apsw
import msgspec
from twisted.internet.defer import Deferred, fail, succeed

from mop_twisted.codec.packets import Publish
from mop_twisted.errors import *
from mop_twisted.model import *
from mop_twisted.topics import matches

enc = msgspec.msgpack.Encoder().encode
dec = msgspec.msgpack.Decoder().decode
SCHEMA = """
create table if not exists message(sequence integer primary key, audience integer, topic text, record blob, crc integer, kept integer);
create table if not exists audience(id integer primary key, members blob);
create table if not exists cursor(name text primary key, id integer, position integer, outstanding blob, released blob) without rowid;
create table if not exists origin(session text, epoch integer, packet_id integer, primary key(session,epoch,packet_id)) without rowid;
create table if not exists state(kind text, key text, value blob, primary key(kind,key)) without rowid;
create table if not exists meta(name text primary key, value) without rowid;
"""


class Retention:
    def __init__(self, filter, seconds, bytes):
        self.filter = filter
        self.seconds = seconds
        self.bytes = bytes


class Cursor:
    def __init__(self, log, name, id, position, outstanding, released, existed):
        self.log = log
        self.name = name
        self.id = id
        self.position = position
        self.existed = existed
        self.outstanding = dict.fromkeys(outstanding)
        self.released = set(released)
        self.owed = list(outstanding)
        self.following = False
        self.backlog_messages = 0
        self.backlog_bytes = 0

    def fetch(self, limit, limit_bytes):
        entries = []
        log = self.log
        while self.owed and len(entries) < limit:
            s = self.owed.pop(0)
            if s not in self.outstanding:
                continue
            e = log.read_one(s)
            if e is None:
                self.outstanding.pop(s, None)
                continue
            e.released = s in self.released
            e.redelivered = not e.released
            entries.append(e)
        live = False
        if not self.owed and len(entries) < limit:
            more, done = log.read_after(self, self.position, limit - len(entries))
            for e in more:
                self.outstanding[e.sequence] = None
            entries += more
            if more:
                self.position = more[-1].sequence
            if done:
                self.position = log.fed
                live = True
                self.following = True
        log.dirty.add(self)
        return succeed(Fetched(entries, live))

    def take(self, entry):
        self.outstanding[entry.sequence] = None
        self.log.dirty.add(self)
        self.position = entry.sequence
        return entry.sequence

    def pause(self, before):
        if before is not None:
            for s in [s for s in self.outstanding if s >= before.sequence]:
                del self.outstanding[s]
            self.position = before.sequence - 1
        elif self.following:
            self.position = self.log.fed
        self.following = False

    def rewind(self):
        self.owed = list(self.outstanding)
        self.following = False

    def acknowledge(self, entries):
        for e in entries:
            self.outstanding.pop(e.sequence, None)
            self.released.discard(e.sequence)
            self.backlog_messages -= 1
            self.backlog_bytes -= e.size
        self.log.dirty.add(self)

    def release(self, entries, completed):
        for e in entries:
            self.released.add(e.sequence)
        self.log.dirty.add(self)
        self.log.enqueue(("nop", None), completed)

    def save(self, completed):
        self.log.dirty.add(self)
        self.log.enqueue(("nop", None), completed)

    def close(self):
        pass


class EmbeddedLog:
    healthy = True
    congested = False

    def __init__(self, folder, reactor, limits, retention=(), wall=time.time, monotonic=None):
        self.folder = folder
        self.reactor = reactor
        self.retention = retention
        self.wall = wall
        self.mono = monotonic or reactor.seconds
        self.cursors = {}
        self.dirty = set()
        self.queue = []
        self.busy = False
        self.seq = 0
        self.fed = 0
        self.audiences = {}
        self.aud_members = {}
        self.pending_feed = []
        self.stopped = None
        self.origin_set = set()

    def start(self, feed, eased):
        self.feed = feed
        os.makedirs(self.folder, exist_ok=True)
        p = os.path.join(self.folder, "log.sqlite")
        self.db = apsw.Connection(p)
        self.db.execute("pragma auto_vacuum=incremental")
        self.db.execute("pragma journal_mode=wal")
        self.db.execute("pragma synchronous=full")
        self.db.execute("pragma wal_autocheckpoint=0")
        self.db.execute(SCHEMA)
        self.rd = apsw.Connection(p)
        r = self.db.execute("select value from meta where name='high'").fetchall()
        self.seq = self.fed = r[0][0] if r else 0
        for n, i, pos, o, rel in self.db.execute(
            "select name,id,position,outstanding,released from cursor"
        ):
            self.cursors[n] = Cursor(self, n, i, pos, dec(o), dec(rel), True)
        for i, m in self.db.execute("select id,members from audience"):
            m = tuple(dec(m))
            self.audiences[m] = i
            self.aud_members[i] = m
        self.origin_set = set(self.db.execute("select session,epoch,packet_id from origin"))
        self.next_cursor = max([c.id for c in self.cursors.values()], default=0) + 1
        self.jobs = Queue()
        t = threading.Thread(target=self.run, daemon=True)
        t.start()
        self.thread = t
        return succeed(None)

    def keeps(self, topic):
        return any(matches(r.filter, topic) for r in self.retention)

    def enqueue(self, job, completed):
        self.queue.append((job, completed))
        if not self.busy:
            self.busy = True
            self.reactor.callLater(0, self.commit)

    def publish(self, entries, completed):
        for e in entries:
            if e.audience is not None or e.kept or e.origin is not None:
                if e.origin is not None:
                    k = (e.origin.session, e.origin.epoch, e.origin.packet_id)
                    if k in self.origin_set:
                        e.token = "dup"
                        continue
                    self.origin_set.add(k)
                self.seq += 1
                e.sequence = e.ordinal = self.seq
                e.size = len(e.publish.payload) + len(e.publish.topic) + 50
                if e.audience:
                    for c in e.audience.cursors:
                        c.backlog_messages += 1
                        c.backlog_bytes += e.size
        self.enqueue(("pub", entries), completed)

    def forget(self, origins, completed):
        for o in origins:
            self.origin_set.discard((o.session, o.epoch, o.packet_id))
        self.enqueue(("forget", [(o.session, o.epoch, o.packet_id) for o in origins]), completed)

    def forget_session(self, session, completed):
        self.origin_set = {k for k in self.origin_set if k[0] != session}
        self.enqueue(("forgets", session), completed)

    def origins(self, session, epoch):
        return succeed([k[2] for k in self.origin_set if k[0] == session and k[1] == epoch])

    def put(self, changes, completed):
        self.enqueue(("put", changes), completed)

    def watch(self, k, c):
        pass

    def load(self, kind, found):
        rows = self.db.execute(
            "select key,value from state where kind=? order by key", (kind,)
        ).fetchall()
        if rows:
            found(rows)
        return succeed(len(rows))

    def cursor(self, name):
        c = self.cursors.get(name)
        if c is not None:
            return succeed(c)
        c = self.cursors[name] = Cursor(self, name, self.next_cursor, self.seq, [], [], False)
        self.next_cursor += 1
        c.position = self.fed
        self.dirty.add(c)
        d = Deferred()
        self.enqueue(("nop", None), lambda e: d.callback(c))
        return d

    def delete_cursor(self, name, completed):
        c = self.cursors.pop(name, None)
        if c is not None:
            self.dirty.discard(c)
        self.enqueue(("delc", name), completed)

    def aud(self, a):
        if a is None:
            return 0
        if a.key:
            return a.key
        m = tuple(sorted(c.id for c in a.cursors))
        k = self.audiences.get(m)
        if k is None:
            k = self.audiences[m] = len(self.audiences) + 1
            self.aud_members[k] = m
            self.db.execute("insert into audience values(?,?)", (k, enc(m)))
        a.key = k
        return k

    def commit(self):
        group, self.queue = self.queue, []
        db = self.db
        db.execute("begin immediate")
        rows = []
        for (kind, arg), _ in group:
            if kind == "pub":
                for e in arg:
                    if e.sequence:
                        if e.origin is not None:
                            db.execute(
                                "insert or ignore into origin values(?,?,?)",
                                (e.origin.session, e.origin.epoch, e.origin.packet_id),
                            )
                        p = e.publish
                        rec = enc(
                            (
                                p.payload,
                                p.qos,
                                p.retain,
                                p.publisher,
                                (self.wall() + p.expires_at - self.mono()) if p.expires_at else 0,
                                p.properties,
                                e.retained_copy,
                            )
                        )
                        rows.append(
                            (
                                e.sequence,
                                self.aud(e.audience),
                                p.topic,
                                rec,
                                zlib.crc32(rec),
                                e.kept,
                            )
                        )
            else:
                if rows:
                    db.executemany("insert into message values(?,?,?,?,?,?)", rows)
                    rows = []
                if kind == "put":
                    for c in arg:
                        if c.value is None:
                            db.execute("delete from state where kind=? and key=?", (c.kind, c.key))
                        else:
                            db.execute(
                                "insert or replace into state values(?,?,?)",
                                (c.kind, c.key, c.value),
                            )
                elif kind == "forget":
                    db.executemany(
                        "delete from origin where session=? and epoch=? and packet_id=?", arg
                    )
                elif kind == "forgets":
                    db.execute("delete from origin where session=?", (arg,))
                elif kind == "delc":
                    db.execute("delete from cursor where name=?", (arg,))
        if rows:
            db.executemany("insert into message values(?,?,?,?,?,?)", rows)
        for c in self.dirty:
            db.execute(
                "insert or replace into cursor values(?,?,?,?,?)",
                (c.name, c.id, c.position, enc(list(c.outstanding)), enc(list(c.released))),
            )
        self.dirty.clear()
        db.execute("insert or replace into meta values('high',?)", (self.seq,))
        self.jobs.put(group)

    def run(self):
        while True:
            g = self.jobs.get()
            if g is None:
                break
            self.db.execute("commit")
            self.reactor.callFromThread(self.committed, g)

    def committed(self, group):
        for (kind, arg), done in group:
            if kind == "pub":
                for e in arg:
                    if e.token == "dup":
                        continue
                    if e.sequence:
                        self.fed = e.sequence
                    self.feed([e])
            done(None)
        if self.queue:
            self.commit()
        else:
            self.busy = False
            if self.stopped:
                self.finish()

    def _entry(self, row):
        s, a, t, rec, crc, kept = row
        assert zlib.crc32(rec) == crc
        pl, q, r, pub, exp, props, copy = (
            msgspec.msgpack.decode(rec, strict=False) if False else dec(rec)
        )
        from mop_twisted.broker.records import properties_of

        p = Publish(t, pl, q, r, 0, properties_of(props))
        p.publisher = pub
        if exp:
            p.expires_at = self.mono() + exp - self.wall()
        e = Entry(p)
        e.retained_copy = bool(copy)
        e.sequence = e.ordinal = s
        e.size = len(pl) + len(t) + 50
        e.kept = bool(kept)
        return e

    def read_one(self, s):
        r = self.rd.execute("select * from message where sequence=?", (s,)).fetchall()
        return self._entry(r[0]) if r else None

    def read_after(self, c, pos, limit):
        out = []
        for row in self.rd.execute(
            "select * from message where sequence>? and sequence<=? order by sequence",
            (pos, self.fed),
        ):
            m = self.aud_members.get(row[1])
            if m and c.id in m:
                out.append(self._entry(row))
                if len(out) >= limit:
                    return out, False
        return out, True

    def position_at(self, start):
        return (
            succeed(0)
            if start == "earliest"
            else (succeed(self.seq) if start == "latest" else fail(ValueError(start)))
        )

    def history(self, f, pos, limit):
        out = []
        for row in self.rd.execute(
            "select * from message where sequence>? and sequence<=? and kept order by sequence",
            (pos, self.fed),
        ):
            if matches(f, row[2]):
                out.append(self._entry(row))
            pos = row[0]
            if len(out) >= limit:
                return succeed(History(out, pos, False))
        return succeed(History(out, pos, True))

    def stop(self):
        self.stopped = Deferred()
        d = self.stopped
        self.enqueue(("nop", None), lambda e: None)
        return d

    def finish(self):
        self.jobs.put(None)
        self.thread.join()
        self.db.close()
        self.rd.close()
        d, self.stopped = self.stopped, None
        d.callback(None)
