"""Mutants that are no fault: what they change cannot be seen from outside, by the reason. Reviewed by hand."""

# ruff: noqa: E501  (names of mutants quote lines of source)

from collections.abc import Iterable

BY_REASON: dict[str, Iterable[str]] = {
    "The array is made for this call, or read no more after it.": (
        "alias/oracle/encoders.py:_layer:df = df + back_t(dm * active) → df += back_t(dm * active)",
        "alias/oracle/encoders.py:_gru:x = x * keep['input'] → x *= keep['input']",
        "alias/oracle/encoders.py:_gru_layer:dout = dout * keep → dout *= keep",
    ),
    "A history of so many codes would need scores of 8 GB.": (
        "size/oracle/encoders.py:_attention:rows beyond 32768 are those 32768 before",
    ),
    "A state of a GRU is a mean of numbers within ± 1.": ("value/oracle/encoders.py:_gru_layer:nothing beyond ± 88",),
    "A process need not be able to join other workers twice, so that nobody may ask it to.": (
        "stale/oracle/numpy_backend.py:NumpyBackend.over:what the first call of these shapes gave",
    ),
    "Speed and memory alone: how candidates, queries and pairs are cut into blocks, how many threads work on them, and room beyond what is used.": (
        "off-by-one/exact/tiles.py:module:1020 → 1021 in TILE_CANDIDATES = 1020",
        "off-by-one/exact/tiles.py:module:1020 → 1019 in TILE_CANDIDATES = 1020",
        "off-by-one/exact/tiles.py:_Limit.__init__:1 → 0 in self.threads = 1",
        "drop/exact/tiles.py:_single_threaded_blas:if _limit.users == 0: _limit.restore() → if True: _limit.restore()",
        "drop/exact/tiles.py:_single_threaded_blas:if _limit.users == 0: _limit.restore() → if False: _limit.restore()",
        "swap/exact/tiles.py:_single_threaded_blas:_limit.users -= 1 → _limit.users += 1",
        "drop/exact/exact.py:_Held.add:self._weigh(self.scores, self.ids) → pass",
        "off-by-one/exact/exact.py:_Held.__init__:2 → 1 in self.room = 2 * k + 64",
        "off-by-one/exact/tiles.py:query_blocks:1 → 2 in size = max(1, min(QUERY_ROWS, -(-num_queries // threads)))",
        "drop/exact/tiles.py:query_blocks:-num_queries → num_queries in size = max(1, min(QUERY_ROWS, -(-num_queries // threads)))",
        "stale/exact/tiles.py:query_blocks:what the first call of these shapes gave",
        "off-by-one/exact/tiles.py:_single_threaded_blas:1 → 0 in _limit.users += 1",
        "off-by-one/exact/tiles.py:_single_threaded_blas:1 → 2 in _limit.users -= 1",
        "drop/exact/tiles.py:_single_threaded_blas:_limit.restore = _blas().limit(limits=1).restore_original_l… → pass",
        "swap/exact/tiles.py:_single_threaded_blas:_limit.users += 1 → _limit.users -= 1",
        "stale/exact/tiles.py:num_threads:what the first call of these shapes gave",
        "stale/exact/tiles.py:_current_threads:what the first call of these shapes gave",
        "off-by-one/exact/tiles.py:module:256 → 255 in QUERY_ROWS = 256",
        "off-by-one/exact/tiles.py:module:1024 → 1023 in PAIRS = 1024",
        "drop/exact/exact.py:_words:-size // 8 → -size in return -(-size // 8) * 8",
    ),
    "The slack stays above what rounding in float32 moves a score by, so no candidate is lost; more of them are scored again.": (
        "off-by-one/exact/tiles.py:rounding:2 → 3 in return float((dim + 4) * np.finfo(dtype).eps / 2)",
        "drop/exact/tiles.py:rounding:(dim + 4) * np.finfo(dtype).eps / 2 → (dim + 4) * np.finfo(dtype).eps in return float((dim + 4) * np.finfo(dtype).eps / 2)",
        "drop/exact/tiles.py:rounding:dim + 4 → dim in return float((dim + 4) * np.finfo(dtype).eps / 2)",
        "swap/exact/tiles.py:rounding:(dim + 4) * np.finfo(dtype).eps → (dim + 4) / np.finfo(dtype).eps in return float((dim + 4) * np.finfo(dtype).eps / 2)",
        "swap/exact/tiles.py:rounding:(dim + 4) * np.finfo(dtype).eps / 2 → (dim + 4) * np.finfo(dtype).eps * 2 in return float((dim + 4) * np.finfo(dtype).eps / 2)",
        "swap/exact/tiles.py:slack:2 * rounding(dim, np.float32) → 2 / rounding(dim, np.float32) in out = (2 * rounding(dim, np.float32) * scale).astype(np.flo…",
    ),
    "What is held beyond the best k is cut off when it is sorted.": (
        "off-by-one/exact/exact.py:_Held._weigh:scores > limit[:, None] → scores >= limit[:, None] in chosen = scores > limit[:, None] #2",
    ),
    "Only what a message says of what is refused either way.": (
        "drop/exact/filters.py:check_allow:positions[0] if positions[0] < 0 else positions[-1] → positions[0] if False else positions[-1] in bad = positions[0] if positions[0] < 0 else positions[-1]",
        "swap/exact/filters.py:check_allow:positions[0] if positions[0] < 0 else positions[-1] → positions[-1] if positions[0] < 0 else positions[0] in bad = positions[0] if positions[0] < 0 else positions[-1]",
        "off-by-one/exact/filters.py:check_allow:0 → 1 in bad = positions[0] if positions[0] < 0 else positions[-1]",
        "drop/exact/filters.py:check_allow:-1 → 1 in bad = positions[0] if positions[0] < 0 else positions[-1]",
        "narrow/exact/filters.py:check_allow:positions[0] if positions[0] < 0 else positions[-1] by way of int8 in bad = positions[0] if positions[0] < 0 else positions[-1]",
        "swap/exact/plan.py:plan_search:tiles.check_vectors(queries, candidates.vectors) → tiles.check_vectors(candidates.vectors, queries) in tiles.check_vectors(queries, candidates.vectors)",
        "narrow/exact/filters.py:check_allow:positions[0] if positions[0] < 0 else positions[-1] by way of int16 in bad = positions[0] if positions[0] < 0 else positions[-1]",
    ),
    "A function of its arguments alone, all of which the key holds.": (
        "stale/oracle/towers.py:_kernel:what the first call of these shapes gave",
        "stale/exact/tiles.py:rounding:what the first call of these shapes gave",
        "stale/exact/tiles.py:check_vectors:what the first call of these shapes gave",
        "stale/exact/plan.py:check_k:what the first call of these shapes gave",
    ),
    "Asked twice of one search, for arrays of different shapes.": (
        "stale/exact/exact.py:_Search._positions:what the first call of these shapes gave",
    ),
    "It is called with new arrays each time, never with the same ones.": (
        "stale/exact/filters.py:TilePatch.apply:what the first call with these objects gave",
        "stale/example/towers.py:Tower.run:what the first call with these objects gave",
    ),
    "Any number below 0 stands for no candidate; −1 is put there at the end.": (
        "off-by-one/exact/exact.py:_Held.__init__:1 → 2 in self.ids = np.full((num_queries, self.room), -1, np.int64)",
    ),
    "A block has at least one query, and room for more than one candidate.": (
        "off-by-one/exact/exact.py:_Held._append:0 → 1 in if (self.used + number).max(initial=0) > self.room: return …",
        "drop/exact/exact.py:_Held._weigh:number.max(initial=0) → number.max() in if number.max(initial=0) > self.room: return False",
    ),
    "Ties beyond k are held too, 2k at most of a room of 2k + 64, and cut off when they are sorted.": (
        "swap/exact/exact.py:_Held._weigh:chosen.sum(1, keepdims=True) → chosen.mean(1, keepdims=True) in chosen |= tied & (np.cumsum(tied, axis=1) <= self.k - chose…",
    ),
    "Vectors are float32 to begin with, and float64 where the other side is.": (
        "narrow/exact/tiles.py:exact_scores:np.float64 → np.float32 in left, right = (queries[query[part]].astype(np.float64), can… #2",
        "narrow/topk/topk.py:top_k:np.float64 → np.float32 in scores = np.einsum('qd,nd->qn', np.asarray(queries, np.floa… #2",
        "narrow/exact/exact.py:_Search._fill:self.queries.astype(dtype, copy=False) by way of float32 in queries = self.queries.astype(dtype, copy=False)",
    ),
    "Vectors are float32, and their norms only bound what rounding may move a score by, with room to spare.": (
        "narrow/exact/exact.py:ExactIndex.build:Candidates.of(vectors) by way of float32 in self._candidates = Candidates.of(vectors)",
        "narrow/exact/exact.py:search_exactly:plan.norms * plan.candidates.norm by way of float32 in scale = plan.norms * plan.candidates.norm",
    ),
    "By the norms a score could leave float32; where exactly that is taken to be is the index's own.": (
        "off-by-one/exact/tiles.py:check_range:query_norm * candidate_norm > float(np.finfo(dtype).max) / 2 → query_norm * candidate_norm >= float(np.finfo(dtype).max) /… in if query_norm * candidate_norm > float(np.finfo(dtype).max)…",
        "drop/exact/tiles.py:check_range:float(np.finfo(dtype).max) / 2 → float(np.finfo(dtype).max) in if query_norm * candidate_norm > float(np.finfo(dtype).max)…",
    ),
    "What it leaves to others is caught or cut off by them: the shape before, −1 and a count of none after it.": (
        "drop/exact/tiles.py:check_vectors:if vectors.ndim != 2: raise DataError(f'{name} vectors must… → if False: raise DataError(f'{name} vectors must have shape …",
        "off-by-one/exact/filters.py:TilePatch.__init__:0 → -1 in known = np.flatnonzero(candidates >= 0)",
        "off-by-one/exact/exact.py:_Held._weigh:0 → -1 in if number.max(initial=0) > self.room: return False",
    ),
    "A buffer whose start is written over before each time that it is read, and of which no more is read.": (
        "narrow/exact/exact.py:_Search._fill:product[:, :len(tile)] by way of float32 in made = product[:, :len(tile)]",
        "swap/exact/exact.py:_Held.__init__:np.zeros(_words(num_queries * tiles.TILE_CANDIDATES), bool) → np.ones(_words(num_queries * tiles.TILE_CANDIDATES), bool) in self.marks = np.zeros(_words(num_queries * tiles.TILE_CANDI…",
    ),
    "A sum starts at 0, and 0 + −0 is 0: a score is −0 only where a lower one is rounded to it, which ranks below 0 by itself.": (
        "value/exact/exact.py:ExactIndex.search:− 0 ranks below 0",
    ),
    "A block has at most 256 queries, whatever a search has.": (
        "size/exact/tiles.py:slack:rows beyond 65536 are those 65536 before",
        "size/exact/exact.py:_Search.best:rows beyond 256 are those 256 before",
    ),
    "No member of the protocol: an index that holds another to its filters sets it.": (
        "drop/exact/exact.py:ExactIndex.candidates:self._candidates = candidates → pass",
    ),
    "The order that it stores is an example of a part, which nothing reads: any order of the same positions is as good.": (
        "swap/topk/numpy_backend.py:NumpyIndex.parts:self.vectors.sum(1) → self.vectors.mean(1) in return {'order': np.argsort(self.vectors.sum(1), kind='stab…",
    ),
    "The last axis is the default.": (
        "drop/exact/exact.py:_Held.sorted:np.argsort(-self.scores, axis=1, kind='stable') → np.argsort(-self.scores, kind='stable') in order = np.argsort(-self.scores, axis=1, kind='stable')[:, …",
        "drop/exact/exact.py:_Held._weigh:np.partition(scores, scores.shape[1] - self.k, axis=1) → np.partition(scores, scores.shape[1] - self.k) in worst = np.partition(scores, scores.shape[1] - self.k, axis…",
    ),
    "What goes through the narrower type fits: − inf, − 1, 0, a count of few, a bucket of 128, or rows and columns of a block (at most 256 by 1,020 + 2k + 64).": (
        "narrow/exact/exact.py:_Held._weigh:np.float32 → np.float16 in limit = np.nextafter(worst - self.slack, np.float32(-np.inf…",
        "narrow/exact/exact.py:_true_places:int16 on the way out",
        "narrow/oracle/encoders.py:_time_bias:np.minimum(TIME_BUCKETS - 1, np.floor(np.log(np.maximum(1, … by way of int16 in row = np.minimum(TIME_BUCKETS - 1, np.floor(np.log(np.maxim…",
        "narrow/oracle/encoders.py:_attention:np.zeros((3, n, d)) by way of float32 in dq, dk, dv = np.zeros((3, n, d))",
        "narrow/oracle/numpy_backend.py:NumpyTrainer.__init__:self._rounded(optimizers.initial_state(optimizer, model.wei… by way of int8 in self._state = self._rounded(optimizers.initial_state(optimi…",
        "narrow/example/trainer.py:Trainer.__init__:np.zeros((), np.int64) by way of int8 in self.own['step'] = np.zeros((), np.int64)",
        "narrow/example/trainer.py:Trainer._move:np.zeros_like(weight) by way of float32 in whole = np.zeros_like(weight)",
        "narrow/oracle/towers.py:slope:np.float64 → np.float32 in return (y > 0).astype(np.float64)",
        "narrow/exact/exact.py:_Held.__init__:np.zeros(num_queries, np.int64) by way of int8 in self.used = np.zeros(num_queries, np.int64)",
        "narrow/exact/filters.py:TilePatch.__init__:queries[order] by way of int16 in self._queries = queries[order]",
        "narrow/example/towers.py:look_up:np.maximum(1, value.lengths)[:, None].astype(table.dtype) i… by way of float32 in divisor = np.maximum(1, value.lengths)[:, None].astype(tabl…",
    ),
    "Scores come out in float32 anyway.": (
        "narrow/exact/tiles.py:exact_scores:float32 on the way out",
        "narrow/topk/topk.py:top_k_of_scores:row_scores[order] by way of float32 in best[row, :len(order)] = row_scores[order]",
        "narrow/topk/topk.py:top_k_of_scores:float32 on the way out",
        "narrow/topk/topk.py:top_k:float32 on the way out",
        "narrow/exact/exact.py:_Search.best:tiles.exact_scores(self.queries, self.vectors, query, candi… by way of float32 in held.scores[query, place] = tiles.exact_scores(self.queries…",
    ),
    "Any other number is another version.": (
        "off-by-one/oracle/numpy_backend.py:NumpyModel.load_weights:1 → 2 in self.version += 1",
        "off-by-one/example/model.py:Model.__init__:0 → -1 in self.version = 0",
        "off-by-one/example/trainer.py:Trainer.step:1 → 2 in self.model.version += 1",
    ),
    "Nothing is declined, so nothing needs a refusal.": (
        "swap/oracle/numpy_backend.py:NumpyBackend.model:type(f).__name__ == 'Text' → type(f).__name__ != 'Text' in self._needs('text', any((type(f).__name__ == 'Text' for f i…",
    ),
    "Backends pad, not the core: a batch names no row out of range.": (
        "drop/oracle/training.py:_whole:np.minimum(batch.rows[name], len(weights[name]) - 1) → batch.rows[name] in return np.minimum(batch.rows[name], len(weights[name]) - 1)",
    ),
    "A step is always given its rate.": (
        "constant/oracle/training.py:step:learning_rate → 0.001 in rate = optimizer.learning_rate if learning_rate is None els…",
        "constant/oracle/training.py:step:learning_rate → 0.1 in rate = optimizer.learning_rate if learning_rate is None els…",
        "constant/oracle/training.py:step:optimizer.learning_rate → 0.001 in rate = optimizer.learning_rate if learning_rate is None els…",
        "constant/oracle/training.py:step:optimizer.learning_rate → 0.1 in rate = optimizer.learning_rate if learning_rate is None els…",
    ),
    "Nobody else holds the array, or looks at it again.": (
        "alias/oracle/optimizers.py:clipped:dict(gradients) → gradients in return dict(gradients)",
        "alias/oracle/optimizers.py:update:weight.copy() → weight in weight, slots = (weight.copy(), {slot: value.copy() for slo…",
        "alias/oracle/optimizers.py:update:value.copy() → value in weight, slots = (weight.copy(), {slot: value.copy() for slo…",
        "alias/oracle/optimizers.py:update:w = w - learning_rate * optimizer.weight_decay * w → w -= learning_rate * optimizer.weight_decay * w",
        "alias/oracle/towers.py:backward:gradient = gradient * slope(_activation(tower, i), trace.ou… → gradient *= slope(_activation(tower, i), trace.outputs[i])",
        "alias/oracle/towers.py:backward:gradient = gradient * features.keep → gradient *= features.keep",
        "alias/example/towers.py:Tower.run:g = g * ACTIVATIONS[layer.activation][1](y) → g *= ACTIVATIONS[layer.activation][1](y)",
        "alias/example/task.py:RetrievalTask.gradients:results lie in one buffer",
        "alias/example/model.py:Model.gradients:results lie in one buffer",
    ),
    "Slots start as one number in every row, 0 or what float32 holds.": (
        "narrow/oracle/optimizers.py:initial_state:np.zeros(np.shape(weight)) by way of float32 in state[f'{name}/velocity'] = np.zeros(np.shape(weight))",
        "size/oracle/optimizers.py:initial_state:rows beyond 256 are those 256 before",
    ),
    "Far within what the vectors of a user's own module are allowed to differ by.": (
        "value/oracle/numpy_backend.py:AdoptedTower.embed:nothing subnormal",
        "value/oracle/numpy_backend.py:NumpyTower._native:nothing below 1e-12",
    ),
    "The trainer asks the model for its weights at each step.": (
        "stale/example/model.py:Model.load_weights:a load that is refused leaves the trainer without its model",
    ),
    "A vector of length 1 has no number beyond 10.": (
        "value/oracle/task.py:normalised:nothing beyond ± 10",
        "value/example/task.py:normalise:nothing beyond ± 10",
    ),
}

EQUIVALENT: dict[str, str] = {name: reason for reason, names in BY_REASON.items() for name in names}
"""Mutant → why it is equivalent."""
