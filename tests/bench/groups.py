# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors

"""What is measured, and what is to be reached.

A group is a list of setups (a server, and loads to run against it) and of
targets.  A target takes a figure out of one round; it is met at its median
over the rounds.  Ratios are taken within a round, never across rounds.
"""

from dataclasses import dataclass, field

LATENCY_MS = 64
WINDOW = 131072          # bytes of a request of the latency experiment
CONTENTS_KIB = 16 * 1024 # of the memory disks, apart from what servers need
IDLE_CLIENTS = 1000


@dataclass
class Load:
    """One run of the load generator."""
    case: str
    args: list
    tool: str = 'abd-load'   # or fio


@dataclass
class Setup:
    server: str              # the name in the tables
    argv: list
    loads: list
    fill: bool = False       # write the whole disk first
    fresh: bool = False      # a new server for each load
    server_cpu: int = None   # run the server on this CPU only
    export: str = ''


@dataclass
class Target:
    text: str
    figure: object           # round -> number; None: a server is missing
    limit: float
    at_least: bool = True
    unit: str = 'x'


@dataclass
class Group:
    name: str
    title: str
    setups: list
    targets: list
    notes: list = field(default_factory=list)


class Rounds:
    """The results of one group: (server, case) -> one dictionary a round."""

    def __init__(self):
        self.results = {}

    def add(self, server, case, result):
        self.results.setdefault((server, case), []).append(result)

    def value(self, server, case, name, i):
        found = self.results.get((server, case), [])
        return found[i].get(name) if i < len(found) and found[i] else None


class Context:
    """How the programs are called on this machine."""

    def __init__(self, options):
        self.options = options
        self.rounds = Rounds()

    def abdkit(self, *args):
        extra = []
        if self.options.plugin_path:
            extra = ['--plugin-path', self.options.plugin_path,
                     '--filter-path', self.options.plugin_path]
        return [self.options.abdkit, '-f', '-U', '@SOCK@', *extra, *args]

    def nbdkit(self, *args):
        return ['nbdkit', '-f', '-U', '@SOCK@', *args]

    def qemu(self, *args):
        return ['qemu-nbd', '-t', '-e', '1100', '-k', '@SOCK@', *args]

    def qemu_null(self, latency_ns=0):
        options = 'driver=null-co,size=16777216,read-zeroes=on'
        if latency_ns:
            options += f',latency-ns={latency_ns}'
        return self.qemu('--image-opts', options)

    def nbd_server(self):
        return ['nbd-server', '-C', '@DIR@/nbd-server.conf',
                '-p', '@DIR@/nbd-server.pid']

    def bound(self, *args):
        return [self.options.bound, '-U', '@SOCK@',
                '--sndbuf', self.options.sndbuf, *args]

    # Figures of one round.

    def get(self, server, case, name):
        return lambda i: self.rounds.value(server, case, name, i)

    def ratio(self, name, over, under):
        """The figure of (server, case) `over`, divided by that of `under`."""
        def figure(i):
            a = self.rounds.value(*over, name, i)
            b = self.rounds.value(*under, name, i)
            return a / b if a is not None and b else None
        return figure

    def per_cpu(self, over, under):
        """Requests per CPU second, as a ratio: the inverse of CPU time."""
        return self.ratio('server_us_per_request', under, over)

    def cpu(self, over, under):
        return self.ratio('server_us_per_request', over, under)


def _load(op, size, depth, *more, seconds):
    pattern = 'seq' if size >= 65536 else 'random'
    return [f'--op={op}', f'--size={size}', f'--depth={depth}',
            f'--pattern={pattern}', f'--time={seconds}', '--warmup=0.3', *more]


def _case(op, depth):
    return f'{op} at depth {depth}'


def _delay_loads(context, depths):
    periods = context.options.periods
    return [Load(_case(op, depth),
                 [f'--op={op}', f'--size={WINDOW}', f'--depth={depth}',
                  '--pattern=seq', f'--count={depth * periods}', '--latency'])
            for op in ('read', 'write') for depth in depths]


def _delay_rate(context, op, depth):
    """Of the arithmetic limit, or of what the bound does: the better one."""
    case = _case(op, depth)

    def figure(i):
        rate = context.rounds.value('abdkit', case, 'rate', i)
        bound = context.rounds.value('bound', case, 'rate', i)
        if rate is None:
            return None
        ideal = depth * 1000 / LATENCY_MS
        return max(rate / ideal, rate / bound if bound else 0)
    return figure


def _peak_mib(context, server, case):
    """Without the disk's own contents."""
    def figure(i):
        peak = context.rounds.value(server, case, 'server_peak_rss_kib', i)
        return None if peak is None else (peak - CONTENTS_KIB) / 1024
    return figure


def delay(context):
    depths = [1, 16, 128, 512, 1024]
    delays = [f'rdelay={LATENCY_MS}ms', f'wdelay={LATENCY_MS}ms']
    loads = _delay_loads(context, depths)
    large = [load for load in loads if load.case == _case('write', 1024)]
    normal = [load for load in loads if load not in large]
    disk = ['--filter=delay', 'memory', '16M', *delays]
    setups = [
        Setup('abdkit', context.abdkit(*disk), normal, True, True),
        Setup('abdkit', context.abdkit('--memory=160M', *disk), large, True,
              True),
        Setup('bound', context.bound('--mode=memory', '--size=16M',
                                     f'--delay={LATENCY_MS}ms'),
              loads, True, True),
        Setup('nbdkit -t 128', context.nbdkit('-t', '128', *disk),
              _delay_loads(context, [1, 16, 128]), True, True),
        Setup('nbdkit', context.nbdkit(*disk), _delay_loads(context, [128]),
              True, True),
        Setup('qemu-nbd null-co', context.qemu_null(LATENCY_MS * 1000000),
              _delay_loads(context, [128]), False, True),
    ]
    targets = [
        Target(f'{_case(op, depth)}: rate, of depth / {LATENCY_MS} ms or of '
               'the bound', _delay_rate(context, op, depth), 0.97)
        for op in ('read', 'write') for depth in depths]
    for op in ('read', 'write'):
        case = _case(op, 128)
        targets += [
            Target(f'{case}: CPU per request, to nbdkit -t 128',
                   context.cpu(('abdkit', case), ('nbdkit -t 128', case)),
                   1 / 3, False),
            Target(f'{case}: threads',
                   context.get('abdkit', case, 'server_threads'), 3, False,
                   'threads'),
            Target(f'{_case(op, 512)}: peak RSS without the contents',
                   _peak_mib(context, 'abdkit', _case(op, 512)),
                   100e6 / 2**20, False, 'MiB')]
    targets.append(
        Target(f'{_case("write", 1024)}, --memory=160M: peak RSS without the '
               'contents', _peak_mib(context, 'abdkit', _case('write', 1024)),
               200e6 / 2**20, False, 'MiB'))
    return Group('delay', f'1. {LATENCY_MS} ms a request, one connection, '
                 '128 KiB', setups, targets,
                 ['Peak memory includes the 16 MiB of the disk\'s contents.'])


def small(context):
    loads = [Load(f'{op} 4k', _load(op, 4096, 128,
                                    seconds=context.options.seconds))
             for op in ('read', 'write')]
    setups = [
        Setup('abdkit memory', context.abdkit('memory', '16M'), loads, True),
        Setup('bound memory', context.bound('--mode=memory', '--size=16M'),
              loads, True),
        Setup('nbdkit memory', context.nbdkit('memory', '16M'), loads, True),
        Setup('abdkit null', context.abdkit('null', '16M'), loads),
        Setup('bound null', context.bound('--mode=null', '--size=16M'), loads),
        Setup('nbdkit null', context.nbdkit('null', '16M'), loads),
        Setup('qemu-nbd null-co', context.qemu_null(), loads),
        Setup('nbd-server file', context.nbd_server(), loads, True,
              export='disk'),
    ]
    limits = {'read': (3.8, 4.9, 6), 'write': (3.2, 5.2, 4.5)}
    targets = []
    for op in ('read', 'write'):
        case = f'{op} 4k'
        nbdkit, qemu, null = limits[op]
        ours = ('abdkit memory', case)
        text = f'memory, {case}: requests per CPU second, to'
        targets += [
            Target(f'{text} the memory bound',
                   context.per_cpu(ours, ('bound memory', case)), 0.8),
            Target(f'{text} nbdkit memory',
                   context.per_cpu(ours, ('nbdkit memory', case)), nbdkit),
            Target(f'{text} qemu-nbd null-co',
                   context.per_cpu(ours, ('qemu-nbd null-co', case)), qemu),
            Target(f'null, {case}: requests per CPU second, to nbdkit null',
                   context.per_cpu(('abdkit null', case),
                                   ('nbdkit null', case)), null)]
    return Group('small', '2. 4 KiB random, depth 128', setups, targets)


def depth1(context):
    """One request at a time, where the placement on CPUs decides."""
    def loads(name, cpu):
        return [Load(f'{op}, {name}',
                     _load(op, 4096, 1, '--latency', f'--cpu={cpu}',
                           seconds=context.options.seconds))
                for op in ('read', 'write')]

    cpus = context.options.cpus
    places = [('one CPU', cpus[0], cpus[0])]
    if len(cpus) > 1:
        places.append(('across CPUs', cpus[0], cpus[1]))
    servers = {
        'abdkit': context.abdkit('memory', '16M'),
        'bound': context.bound('--mode=memory', '--size=16M'),
        'nbdkit': context.nbdkit('memory', '16M'),
        'nbdkit -t 1': context.nbdkit('-t', '1', 'memory', '16M'),
        'qemu-nbd null-co': context.qemu_null(),
    }
    setups = [Setup(name, argv, loads(place, client), True, False, server)
              for place, server, client in places
              for name, argv in servers.items()]
    peers = ['nbdkit', 'nbdkit -t 1', 'qemu-nbd null-co']

    def latency(case):
        def figure(i):
            ours = context.rounds.value('abdkit', case, 'latency_p50_us', i)
            best = [value for value in
                    (context.rounds.value(peer, case, 'latency_p50_us', i)
                     for peer in peers) if value]
            return ours / min(best) if ours and best else None
        return figure

    targets = []
    for op in ('read', 'write'):
        one, two = f'{op}, one CPU', f'{op}, across CPUs'
        targets += [
            Target(f'{one}: CPU per request, to nbdkit',
                   context.cpu(('abdkit', one), ('nbdkit', one)), 1, False),
            Target(f'{two}: median latency, to the best peer', latency(two),
                   1.05, False)]
    return Group('depth1', '2. Depth 1, 4 KiB, memory', setups, targets)


def large(context):
    loads = [Load(f'{op} 128k', _load(op, WINDOW, 128,
                                      seconds=context.options.seconds))
             for op in ('read', 'write')]
    setups = [
        Setup('abdkit', context.abdkit('memory', '16M'), loads, True),
        Setup('bound', context.bound('--mode=memory', '--size=16M'), loads,
              True),
        Setup('nbdkit', context.nbdkit('memory', '16M'), loads, True),
        Setup('qemu-nbd null-co', context.qemu_null(), loads),
    ]
    read, write = (('abdkit', 'read 128k'), ('nbdkit', 'read 128k')), \
        (('abdkit', 'write 128k'), ('nbdkit', 'write 128k'))
    targets = [
        Target('read: CPU per byte, to nbdkit', context.cpu(*read), 0.7,
               False),
        Target('read: rate, to nbdkit', context.ratio('rate', *read), 1.4),
        Target('write: CPU per byte, to nbdkit', context.cpu(*write), 1,
               False),
        Target('write: rate, to nbdkit', context.ratio('rate', *write), 1)]
    return Group('large', '3. Memory, 128 KiB sequential, depth 128', setups,
                 targets)


def file(context):
    seconds = context.options.seconds
    loads = []
    for style in ('simple', 'structured'):
        more = ['--structured'] if style == 'structured' else []
        loads += [
            Load(f'read 4k, {style}',
                 _load('read', 4096, 128, *more, seconds=seconds)),
            Load(f'read 128k, {style}',
                 _load('read', WINDOW, 128, *more, seconds=seconds))]
    loads += [Load('write 4k, simple', _load('write', 4096, 128,
                                             seconds=seconds)),
              Load('write 128k, simple', _load('write', WINDOW, 128,
                                               seconds=seconds))]
    disk = '@DIR@/disk.img'
    only_simple = [load for load in loads if 'structured' not in load.case]
    setups = [
        Setup('abdkit', context.abdkit('file', disk), loads),
        Setup('bound', context.bound('--mode=file', '--file', disk), loads),
        Setup('nbdkit', context.nbdkit('file', disk), loads),
        Setup('qemu-nbd', context.qemu('-f', 'raw', disk), loads),
        Setup('nbd-server', context.nbd_server(), only_simple, export='disk'),
    ]

    def target(case):
        return Target(f'{case}: requests per CPU second, to nbdkit',
                      context.per_cpu(('abdkit', case), ('nbdkit', case)),
                      2.5)
    targets = [target(load.case) for load in loads
               if load.case != 'write 128k, simple']
    return Group('file', '4. A file in the page cache, depth 128', setups,
                 targets)


def direct(context):
    depths = (1, 32, 128)
    loads = [Load(_case(op, depth),
                  _load(op, 4096, depth, '--latency',
                        seconds=context.options.seconds))
             for op in ('read', 'write') for depth in depths]
    disk = '@DIR@/disk.img'
    setups = [
        Setup('abdkit direct', context.abdkit('file', disk, 'direct=true'),
              loads),
        Setup('qemu-nbd native',
              context.qemu('-f', 'raw', '--cache=none', '--aio=native', disk),
              loads),
        Setup('qemu-nbd io_uring',
              context.qemu('-f', 'raw', '--cache=none', '--aio=io_uring',
                           disk), loads),
        Setup('nbdkit (buffered)', context.nbdkit('file', disk), loads),
    ]
    targets = []
    for load in loads:
        for peer in ('qemu-nbd native', 'qemu-nbd io_uring'):
            pair = ('abdkit direct', load.case), (peer, load.case)
            targets += [
                Target(f'{load.case}: rate, to {peer}',
                       context.ratio('rate', *pair), 1),
                Target(f'{load.case}: CPU per request, to {peer}',
                       context.cpu(*pair), 0.5, False)]
    return Group('direct', '4. A file with direct=true, 4 KiB random', setups,
                 targets)


def idle(context):
    def loads(clients):
        return [Load('idle', [f'--idle={clients}', '--time=2'])]

    setups = [
        Setup('abdkit', context.abdkit('--max-connections=1100', 'null',
                                       '16M'), loads(IDLE_CLIENTS)),
        Setup('bound', context.bound('--mode=null'), loads(IDLE_CLIENTS)),
        Setup('qemu-nbd null-co', context.qemu_null(), loads(IDLE_CLIENTS)),
        # Sixteen threads a client, and a process a client.
        Setup('nbdkit (100 clients)', context.nbdkit('null', '16M'),
              loads(100)),
        Setup('nbd-server (100 clients)', context.nbd_server(), loads(100),
              export='disk'),
    ]
    get = context.rounds.value

    def threads(i):
        after = get('abdkit', 'idle', 'server_threads', i)
        before = get('abdkit', 'idle', 'server_threads_before', i)
        return None if after is None else after - before

    def cpu(i):
        used = get('abdkit', 'idle', 'server_cpu_seconds', i)
        return None if used is None else used * 1e3 / get('abdkit', 'idle',
                                                          'seconds', i)
    return Group('idle', f'5. {IDLE_CLIENTS} clients at rest', setups, [
        Target('RSS per client',
               context.get('abdkit', 'idle', 'rss_per_client_kib'), 8, False,
               'KiB'),
        Target('threads for the clients', threads, 0, False, 'threads'),
        Target('CPU at rest', cpu, 1, False, 'ms a second')])


def fairness(context):
    seconds = context.options.seconds
    base = ['--op=read', '--size=4096', '--depth=16', '--connections=64',
            f'--time={seconds}', '--warmup=0.5', '--latency']
    loads = [
        Load('64 alike', base),
        Load('one writes 1 MiB at depth 64', base + ['--writer']),
        Load('one never reads', base + ['--deaf']),
        Load('both', base + ['--mixed-fairness']),
    ]
    setups = [
        Setup('abdkit', context.abdkit('memory', '16M'), loads, True, True),
        Setup('bound', context.bound('--mode=memory', '--size=16M'), loads,
              True, True),
        Setup('nbdkit', context.nbdkit('memory', '16M'), loads, True, True),
        Setup('qemu-nbd null-co', context.qemu_null(), loads, False, True),
    ]
    return Group('fairness', '5. 64 busy connections, 4 KiB reads at depth 16',
                 setups, [
                     Target(f'{load.case}: slowest of the fastest reader',
                            context.get('abdkit', load.case, 'fairness'), 0.5)
                     for load in loads])


def scaling(context):
    seconds = context.options.scaling_seconds
    depths = [Load(f'depth {n}', _load('read', 4096, n, seconds=seconds))
              for n in (1, 4, 16, 64, 256, 1024)]
    clients = [Load(f'connections {n}',
                    _load('read', 4096, 16, f'--connections={n}',
                          seconds=seconds))
               for n in (1, 4, 16, 64, 256)]
    loads = depths + clients
    setups = [
        Setup('abdkit memory', context.abdkit('--max-connections=300',
                                              'memory', '16M'), loads, True),
        Setup('bound memory', context.bound('--mode=memory', '--size=16M'),
              loads, True),
        Setup('nbdkit memory', context.nbdkit('memory', '16M'), loads, True),
        Setup('qemu-nbd null-co', context.qemu_null(), loads),
    ]
    return Group('scaling', '6. How cost grows: 4 KiB reads (depth 16 where '
                 'connections grow)', setups, [])


def fio(context):
    loads = [Load(f'{op} 4k', [f'--rw=rand{op}', '--bs=4k', '--iodepth=128',
                               f'--runtime={context.options.seconds}'], 'fio')
             for op in ('read', 'write')]
    setups = [
        Setup('abdkit', context.abdkit('memory', '16M'), loads, True),
        Setup('bound', context.bound('--mode=memory', '--size=16M'), loads,
              True),
        Setup('nbdkit', context.nbdkit('memory', '16M'), loads, True),
        Setup('qemu-nbd null-co', context.qemu_null(), loads),
    ]
    return Group('fio', 'Check with fio\'s nbd engine: memory, 4 KiB random, '
                 'depth 128', setups, [],
                 ['fio sends each request with a system call of its own, so '
                  'little can be batched and fio is what limits the rate: '
                  'compare the server\'s CPU.'])


GROUPS = {function.__name__: function for function in
          (delay, small, depth1, large, file, direct, idle, fairness, scaling,
           fio)}
