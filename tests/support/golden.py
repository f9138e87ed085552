"""The papers' equations in plain numpy loops, float64, one batch element at a time. Shares nothing with the models but parameter arrays.

`p` maps a model's parameter names to arrays. [N] Graves et al. 2014, [D] Graves et al. 2016, [S] Rae et al. 2016.
"""

from dataclasses import dataclass, field

import numpy as np

EPSILON = 1e-6
DELTA = 0.005


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def softplus(v):
    return np.log1p(np.exp(v))


def softmax(v):
    e = np.exp(np.asarray(v) - np.max(v))
    return e / e.sum()


def cosine(u, v):
    return float(u @ v) / np.sqrt(float(u @ u) + EPSILON) / np.sqrt(float(v @ v) + EPSILON)


def content(memory, key, beta):
    """[N] eq 5, 6."""
    return softmax([beta * cosine(key, row) for row in memory])


def lstm(p, x, h, c):
    gates = p["controller.weight_ih"] @ x + p["controller.bias_ih"] + p["controller.weight_hh"] @ h + p["controller.bias_hh"]
    i, f, g, o = np.split(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def linear(p, name, v):
    return p[f"{name}.weight"] @ v + p[f"{name}.bias"]


class Reader:
    """Takes consecutive pieces of an interface vector."""

    def __init__(self, vector):
        self.vector, self.at = vector, 0

    def __call__(self, *shape):
        size = int(np.prod(shape))
        piece = self.vector[self.at : self.at + size].reshape(shape)
        self.at += size
        return piece


def run(p, x, memory, access, state, heads, width, hidden):
    """The wiring of [S] 3.3: x [T, X] -> y [T, Y]; `access(interface, memory, state)` -> reads [R, W], memory."""
    h, c, reads, outputs = np.zeros(hidden), np.zeros(hidden), np.zeros((heads, width)), []
    for x_t in x:
        h, c = lstm(p, np.concatenate([x_t, reads.ravel()]), h, c)
        reads, memory = access(Reader(linear(p, "interface", h)), memory, state)
        outputs.append(linear(p, "output", np.concatenate([h, reads.ravel()])))
    return np.array(outputs), memory


@dataclass
class NTMState:
    """Weights of the last step."""

    read: np.ndarray
    write: np.ndarray


def ntm_address(take, memory, previous, width, shifts=1):
    """[N] figure 2: content, interpolation, shift, sharpening."""
    key, beta, gate, gamma, s = (
        take(width),
        softplus(take(1)[0]),
        sigmoid(take(1)[0]),
        1 + softplus(take(1)[0]),
        softmax(take(2 * shifts + 1)),
    )
    n = len(memory)
    gated = gate * content(memory, key, beta) + (1 - gate) * previous
    shifted = np.zeros(n)
    for i in range(n):
        for j in range(n):
            for move in range(-shifts, shifts + 1):
                if (i - j - move) % n == 0:
                    shifted[i] += gated[j] * s[move + shifts]
    power = shifted**gamma
    return power / power.sum()


def ntm_access(heads, write_heads, width):
    def access(take, memory, state):
        per_head = width + 6
        reads_part, writes_part = take(heads * per_head), take(write_heads * per_head)
        erase, add = sigmoid(take(write_heads, width)), take(write_heads, width)
        take_write, take_read = Reader(writes_part), Reader(reads_part)
        state.write = np.array([ntm_address(take_write, memory, state.write[k], width) for k in range(write_heads)])
        new = memory.copy()
        for k in range(write_heads):
            for i in range(len(memory)):
                new[i] = new[i] * (1 - state.write[k, i] * erase[k])
        for k in range(write_heads):
            for i in range(len(memory)):
                new[i] = new[i] + state.write[k, i] * add[k]
        state.read = np.array([ntm_address(take_read, new, state.read[k], width) for k in range(heads)])
        return np.array([sum(state.read[k, i] * new[i] for i in range(len(new))) for k in range(heads)]), new

    return access


@dataclass
class DNCState:
    """[D]: usage, link, precedence, weights of the last step."""

    usage: np.ndarray
    link: np.ndarray
    precedence: np.ndarray
    write: np.ndarray
    read: np.ndarray


def allocation(usage):
    u = EPSILON + (1 - EPSILON) * usage
    order, weights, product = np.argsort(u, kind="stable"), np.zeros(len(u)), 1.0
    for i in order:
        weights[i] = (1 - u[i]) * product
        product *= u[i]
    return weights


def dnc_access(heads, width):
    def access(take, memory, state):
        n = len(memory)
        keys, betas = take(heads, width), 1 + softplus(take(heads))
        write_key, write_beta = take(width), 1 + softplus(take(1)[0])
        erase, value = sigmoid(take(width)), take(width)
        free, g_a, g_w, modes = sigmoid(take(heads)), sigmoid(take(1)[0]), sigmoid(take(1)[0]), take(heads, 3)

        retention = np.ones(n)
        for k in range(heads):
            retention *= 1 - free[k] * state.read[k]
        state.usage = (state.usage + state.write - state.usage * state.write) * retention
        w = g_w * (g_a * allocation(state.usage) + (1 - g_a) * content(memory, write_key, write_beta))
        new = np.array([memory[i] * (1 - w[i] * erase) + w[i] * value for i in range(n)])
        link = np.zeros((n, n))
        for i in range(n):
            for j in range(n):
                if i != j:
                    link[i, j] = (1 - w[i] - w[j]) * state.link[i, j] + w[i] * state.precedence[j]
        state.link, state.precedence, state.write = link, (1 - w.sum()) * state.precedence + w, w
        read = []
        for k in range(heads):
            mode = softmax(modes[k])
            read.append(mode[0] * (link.T @ state.read[k]) + mode[1] * content(new, keys[k], betas[k]) + mode[2] * (link @ state.read[k]))
        state.read = np.array(read)
        return state.read @ new, new

    return access


@dataclass
class DAMState:
    """[S] 3.2: usage U(1) and the last read weights; rows 0 to `num_written` - 1 were written."""

    usage: np.ndarray
    read: np.ndarray
    num_written: int


def dam_access(heads, width, discount=0.99):
    def access(take, memory, state):
        n = len(memory)
        queries, betas, values = take(heads, width), 1 + softplus(take(heads)), take(heads, width)
        alpha, gamma = sigmoid(take(heads)), sigmoid(take(heads))
        new, taken, written = memory.copy(), [], np.zeros(n)
        for k in range(heads):
            unused = min((i for i in range(n) if i not in taken), key=lambda i: state.usage[i])
            taken.append(unused)
            new[unused] = 0
            for i in range(n):
                w = alpha[k] * (gamma[k] * state.read[k, i] + (1 - gamma[k]) * (i == unused))
                new[i] = new[i] + w * values[k]
                written[i] += w
        state.num_written = min(n, state.num_written + heads)
        state.read = np.zeros((heads, n))
        for k in range(heads):
            state.read[k, : state.num_written] = content(new[: state.num_written], queries[k], betas[k])
        state.usage = discount * state.usage + written + state.read.sum(0)
        return state.read @ new, new

    return access


@dataclass
class SparseState:
    """[S]: the ring as a list, what each head read as {row: weight}, and SDNC's links as dense arrays with few entries."""

    order: list
    num_written: int
    read: list = field(default_factory=list)
    after: np.ndarray | None = None  # N of the paper
    before: np.ndarray | None = None  # P of the paper
    precedence: dict = field(default_factory=dict)

    def use(self, row):
        self.order.remove(row)
        self.order.append(row)


def write_sparse(memory, state, previous, alpha, gamma, value):
    """One head's write ([S] eq 5, 8); returns its weights as {row: weight}."""
    unused = state.order[0]
    state.use(unused)
    memory[unused] = 0
    weights = {row: alpha * gamma * w for row, w in previous.items()}
    for row, w in weights.items():
        memory[row] = memory[row] + w * value
        if w > DELTA:
            state.use(row)
    memory[unused] = memory[unused] + alpha * (1 - gamma) * value
    if alpha * (1 - gamma) > DELTA:
        state.use(unused)
    weights[unused] = weights.get(unused, 0.0) + alpha * (1 - gamma)
    return weights


def nearest(memory, state, query, beta, reads):
    """{row: weight} of the K nearest written rows."""
    similarity = [cosine(query, memory[i]) for i in range(state.num_written)]
    rows = sorted(range(state.num_written), key=lambda i: -similarity[i])[:reads]
    return dict(zip(rows, softmax([beta * similarity[i] for i in rows]), strict=True))


def read_sparse(memory, state):
    for weights in state.read:
        for row, w in weights.items():
            if w > DELTA:
                state.use(row)
    width = memory.shape[1]
    return np.array([sum((w * memory[row] for row, w in weights.items()), np.zeros(width)) for weights in state.read])


def sam_access(heads, width, reads):
    def access(take, memory, state):
        queries, betas, values = take(heads, width), 1 + softplus(take(heads)), take(heads, width)
        alpha, gamma = sigmoid(take(heads)), sigmoid(take(heads))
        memory = memory.copy()
        for k in range(heads):
            write_sparse(memory, state, state.read[k] if state.read else {}, alpha[k], gamma[k], values[k])
        state.num_written = min(len(memory), state.num_written + heads)
        state.read = [nearest(memory, state, queries[k], betas[k], reads) for k in range(heads)]
        return read_sparse(memory, state), memory

    return access


def largest(weights, entries):
    return dict(sorted(((i, w) for i, w in weights.items() if w > 0), key=lambda item: -item[1])[:entries])


def cut_row(matrix, i, entries):
    kept = largest(dict(enumerate(matrix[i])), entries)
    matrix[i] = 0
    for j, w in kept.items():
        matrix[i, j] = w


def link_step(state, weights, entries):
    """[S] eq 10, 19, 20 with rows cut to K_L entries; P's columns decay where N's rows say they are held."""
    n = len(state.after)
    w, p = largest(weights, entries), state.precedence
    for j, w_j in w.items():
        for i in range(n):
            if state.after[j, i] > 0:
                state.before[i, j] *= 1 - w_j
    for i, p_i in p.items():
        for j, w_j in w.items():
            if i != j:
                state.before[i, j] += w_j * p_i
        cut_row(state.before, i, entries)
    for i, w_i in w.items():
        state.after[i] *= 1 - w_i
        for j, p_j in p.items():
            if i != j:
                state.after[i, j] += w_i * p_j
        cut_row(state.after, i, entries)
    total = sum(weights.values())
    precedence = {i: (1 - total) * p_i for i, p_i in p.items()}
    for i, w_i in w.items():
        precedence[i] = precedence.get(i, 0.0) + w_i
    state.precedence = largest(precedence, entries)


def dense_link_step(state, weights, entries):
    """The recurrences without any cut, as matrices; P must come out as N transposed."""
    n = len(state.after)
    w, p = np.zeros(n), np.zeros(n)
    for i, w_i in weights.items():
        w[i] = w_i
    for i, p_i in state.precedence.items():
        p[i] = p_i
    state.after = (1 - w)[:, None] * state.after + np.outer(w, p)
    state.before = (1 - w)[None, :] * state.before + np.outer(p, w)
    np.fill_diagonal(state.after, 0)
    np.fill_diagonal(state.before, 0)
    np.testing.assert_allclose(state.before, state.after.T, atol=1e-15)
    state.precedence = dict(enumerate((1 - w.sum()) * p + w))


def sdnc_access(heads, width, reads, entries, links=link_step):
    def access(take, memory, state):
        queries, betas, value = take(heads, width), 1 + softplus(take(heads)), take(width)
        alpha, gamma, modes = sigmoid(take(1)[0]), sigmoid(take(1)[0]), take(heads, 3)
        mean: dict[int, float] = {}
        for weights in state.read:
            for row, w in weights.items():
                mean[row] = mean.get(row, 0.0) + w / heads
        memory = memory.copy()
        links(state, write_sparse(memory, state, mean, alpha, gamma, value), entries)
        state.num_written = min(len(memory), state.num_written + 1)
        previous, state.read = state.read or [{}] * heads, []
        for k in range(heads):
            mode, mixed = softmax(modes[k]), dict[int, float]()
            parts = [(mode[1], nearest(memory, state, queries[k], betas[k], reads))]
            for weight, matrix in ((mode[0], state.after), (mode[2], state.before)):  # b = P w walks rows of N, f = N w rows of P
                part: dict[int, float] = {}
                for j, w in previous[k].items():
                    for i in map(int, np.flatnonzero(matrix[j])):
                        part[i] = part.get(i, 0.0) + matrix[j, i] * w
                parts.append((weight, part))
            for weight, part in parts:
                for i, w in part.items():
                    mixed[i] = mixed.get(i, 0.0) + weight * w
            state.read.append(largest(mixed, reads))
        return read_sparse(memory, state), memory

    return access
