"""Globals that cannot be pickled: natural copies, and errors of the calls that use them, which name them."""

from __future__ import annotations

from scripts import run


def test_natural_copies(joined, tmp_path):
    script = """
    import collections, contextvars, io, itertools, logging, multiprocessing, queue, sqlite3, types, weakref
    event, condition, semaphore = threading.Event(), threading.Condition(), threading.Semaphore(2)
    rlock = threading.RLock()
    event.set()
    local, items, simple = threading.local(), queue.Queue(), queue.SimpleQueue()
    local.x = 1
    items.put("item")
    variable = contextvars.ContextVar("variable", default=5)
    class Key: pass
    key = Key()
    weak, weak_set = weakref.WeakKeyDictionary({key: 1}), weakref.WeakSet([key])
    log = logging.getLogger("ours")
    log.setLevel(logging.INFO)
    log.addHandler(logging.FileHandler("log.txt"))
    held = types.SimpleNamespace(lock=threading.Lock(), view=memoryview(b"abc"), proxy=types.MappingProxyType({"a": 1}))
    generator, out, null = (i for i in range(3)), sys.stdout, open(os.devnull, "w")
    with open("read.txt", "w") as file: file.write("one\\ntwo\\n")
    read, memory = open("read.txt"), sqlite3.connect(":memory:")
    memory.execute("create table t (x)"); memory.execute("insert into t values (7)"); memory.commit()
    lock, value, many = multiprocessing.Lock(), multiprocessing.Value("i", 3), multiprocessing.Queue()
    def threads():
        with condition, semaphore, rlock, held.lock:
            return event.is_set(), items.get(), simple.empty(), local.x, variable.get()
    def others():
        log.info("logged"); print("x", file=null)
        return weak[key], len(weak_set), held.view[0], held.proxy["a"], next(generator), read.readline()
    def database(): return memory.execute("select x from t").fetchone()
    def shared():
        with lock, value.get_lock(): value.value += 1
        many.put("put")
        return value.value
    with ChunkExecutor(2) as executor:
        for f in (threads, others, database, shared, shared): print(executor.submit(f).result())
        print(value.value, many.get(), open("log.txt").read().strip())
    """
    assert run(script, tmp_path, **joined) == [
        "(True, 'item', True, 1, 5)",
        "(1, 1, 97, 1, 0, 'one\\n')",
        "(7,)",
        "4",
        "5",
        "5 put logged",
    ]


def test_errors_name_the_global(joined, tmp_path):
    script = """
    import socket, sqlite3
    from thread_chunks import PicklingFailed
    DB, SOCKET, FILE = sqlite3.connect("file.db"), socket.socket(), open("written", "w")
    HELD = {"a": 1, "socket": SOCKET}
    def use(name):
        if name == "DB": return DB.execute("select 1")
        if name == "SOCKET": return SOCKET.fileno()
        if name == "FILE": return FILE.write("x")
        if name == "HELD": return HELD["socket"].fileno()
        return HELD["a"], DB is not None
    def initialize():
        global DB
        DB = sqlite3.connect("file.db")
    with ChunkExecutor(1) as executor:
        for name in ("DB", "SOCKET", "FILE", "HELD", "none"):
            try: print(executor.submit(use, name).result())
            except PicklingFailed as error: print(str(error).partition(":")[0])
    with ChunkExecutor(1, initializer=initialize) as executor:
        print(executor.submit(lambda: DB.execute("select 1").fetchone()).result())
    """
    assert run(script, tmp_path, **joined) == [
        "the global 'DB' of __main__ (sqlite3.Connection) cannot be sent",
        "the global 'SOCKET' of __main__ (socket.socket) cannot be sent",
        "the global 'FILE' of __main__ (_io.TextIOWrapper) cannot be sent",
        "the global 'SOCKET' of __main__ (socket.socket) cannot be sent",
        "(1, True)",
        "(1,)",
    ]
