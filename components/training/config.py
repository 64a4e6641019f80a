"""How a model is trained: steps, batch, learning rate, engine. One config for pretraining, SFT and the reward model.

A stage nests it as its field `training`. `batch_size` is global and given once: ranks and micro-batches only say how a
step's sequences are cut up, and never change its gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from components.configuring import added, require, require_choice, runtime
from components.training.deepspeed_table import check_table
from components.training.privacy import PrivacyConfig, refuse_private

SCHEDULES = ("cosine", "linear", "constant", "wsd", "inverse-sqrt")
DECAY_SHAPES = ("1-sqrt", "linear")
OPTIMIZERS = ("adamw", "muon", "adamw8bit")
ENGINES = ("deepspeed", "plain")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
RECOMPUTES = ("none", "blocks")
OFFLOADS = ("none", "cpu", "nvme")
SPIKES = ("off", "skip", "rewind")


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run.

    Attributes:
        steps: Optimizer steps.
        batch_size: Sequences per step, over all ranks.
        micro_batch: Sequences per forward pass of one rank; bounds memory, never changes the gradient.
        lr: Peak learning rate.
        min_lr_ratio: The learning rate ends at this share of its peak ("cosine", "linear" and "wsd").
        warmup_steps: Steps over which the learning rate climbs linearly from near zero to its peak.
        schedule: "cosine", "linear", "constant", "wsd" (constant, then a decay at the end) or "inverse-sqrt" after the
            warm-up.
        decay_share: Share of `steps` at the end over which a "wsd" schedule decays.
        decay_shape: "1-sqrt" or "linear": how it does.
        optimizer: "adamw"; "muon" for the matrices inside the blocks and AdamW for all else; or "adamw8bit", AdamW
            with moments of one byte each.
        muon_momentum: Muon's decay rate of its momentum.
        muon_lr_ratio: Muon's learning rate as a multiple of `lr`; 1 gives its updates the size of AdamW's.
        weight_decay: AdamW's decoupled decay, on matrices only (not on norms and biases).
        beta1: AdamW's decay rate of the first moment.
        beta2: AdamW's decay rate of the second moment.
        eps: AdamW's epsilon.
        clip_grad: Largest global L2 norm of the gradient; 0 turns clipping off.
        engine: "deepspeed", or "plain" torch (one rank).
        zero_stage: DeepSpeed ZeRO stage 0 to 3: nothing, optimizer states, gradients, weights are split over ranks.
        precision: "auto" (fp32 on CPU, bf16 on CUDA), "fp32", "bf16", or "fp16" under a dynamic loss scale.
        recompute: "blocks" keeps only what enters a block and computes its inside again in the backward pass; "none"
            keeps all activations. Never changes the gradient.
        compile: Compile each block with torch.compile.
        offload: Where DeepSpeed keeps the optimizer's state (and at stage 3 the weights) between uses: "none" (on the
            device), "cpu" or "nvme".
        offload_folder: Folder on the NVMe disk.
        deepspeed: More settings of DeepSpeed by dotted name, such as `zero_optimization.stage3_max_live_parameters`.
            What follows from another setting cannot be set here.
        ranks: Training processes.
        min_ranks: On a cluster that loses machines, training goes on with what is left, down to so many ranks: the
            same batches, from the newest checkpoint. 0 waits for all of them.
        tensor_parallel: Ranks that share each matrix of a block.
        sequence_parallel: Ranks that share each sequence.
        eval_every: Steps between evaluations; 0 evaluates at the end only.
        log_every: Steps between logged metrics.
        checkpoint_every: Steps between checkpoints; 0 saves only when the run is stopped.
        max_skipped: Steps whose update may be left out, because their loss or gradient is not finite or spikes, before
            training gives up.
        spike: What happens to a step whose loss or gradient norm stands out from the steps before it: "off" takes it,
            "skip" leaves out its update, "rewind" goes back to the newest checkpoint and leaves out its batch.
        spike_sigmas: How many standard deviations above their mean is a spike.
        spike_window: Over how many accepted steps mean and deviation are taken; no spike is seen before half of them.
        max_rewinds: Rewinds before training gives up.
        hang_timeout_s: Seconds in which a step (or a batch of an evaluation, or a save) must end; a rank that is slower
            leaves its stacks and ends. 0 waits for ever.
        measure_peak: Time a large matrix product before the first step, and tell what share of its speed training gets.
        privacy: Differential privacy (DP-SGD), of rows that are learned from.
    """

    steps: int = 400
    batch_size: int = 16
    micro_batch: int = runtime(8)
    lr: float = 2e-3
    min_lr_ratio: float = 0.1
    warmup_steps: int = 20
    schedule: str = "cosine"
    decay_share: float = added(0.2)
    decay_shape: str = added("1-sqrt")
    optimizer: str = added("adamw")
    muon_momentum: float = added(0.95)
    muon_lr_ratio: float = added(1.0)
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    clip_grad: float = 1.0
    engine: str = "deepspeed"
    zero_stage: int = 1
    precision: str = "auto"
    recompute: str = runtime("none")
    compile: bool = added(False)
    offload: str = added("none")
    offload_folder: str = runtime("")
    deepspeed: dict[str, str] = field(default_factory=dict, metadata={"keeps": {}})
    ranks: int = runtime(2)
    min_ranks: int = runtime(0)
    tensor_parallel: int = runtime(1)
    sequence_parallel: int = runtime(1)
    eval_every: int = 100
    log_every: int = runtime(10)
    checkpoint_every: int = runtime(100)
    max_skipped: int = 10
    spike: str = added("off")
    spike_sigmas: float = added(6.0)
    spike_window: int = added(128)
    max_rewinds: int = added(3)
    hang_timeout_s: float = runtime(600.0)
    measure_peak: bool = runtime(False)
    privacy: PrivacyConfig = added(PrivacyConfig())  # noqa: RUF009  (it is frozen)

    def __post_init__(self) -> None:
        require(self.steps >= 1, "training.steps", self.steps, "must be at least 1", "training.steps=400")
        self._check_batch()
        self._check_schedule()
        self._check_optimizer()
        self._check_engine()
        self._check_offload()
        self._check_guard()
        self._check_privacy()
        check_table(self.deepspeed, self.engine)
        for name in ("eval_every", "checkpoint_every", "max_skipped"):
            value = getattr(self, name)
            require(value >= 0, f"training.{name}", value, "must be 0 or more", f"training.{name}=100")
        require(
            self.log_every >= 1, "training.log_every", self.log_every, "must be at least 1", "training.log_every=10"
        )

    @property
    def data_ranks(self) -> int:
        """Groups of ranks that work on sequences of their own; the ranks of a group share theirs."""
        return self.ranks // (self.tensor_parallel * self.sequence_parallel)

    def allowed_ranks(self) -> tuple[int, ...]:
        """Numbers of ranks below `ranks` that may go on without the others: those that can share the batch."""
        shared = self.tensor_parallel * self.sequence_parallel
        fewer = range(self.min_ranks, self.ranks) if self.min_ranks else ()
        return tuple(ranks for ranks in fewer if ranks % shared == 0 and self.batch_size % (ranks // shared) == 0)

    def on_ranks(self, ranks: int) -> TrainingConfig:
        """The same training on another number of ranks: the largest micro-batch up to the present that divides."""
        if ranks == self.ranks:
            return self
        share = self.batch_size // (ranks // (self.tensor_parallel * self.sequence_parallel))
        micro_batch = next(size for size in range(min(self.micro_batch, share), 0, -1) if share % size == 0)
        return replace(self, ranks=ranks, min_ranks=min(self.min_ranks, ranks), micro_batch=micro_batch)

    def with_less_memory(self) -> TrainingConfig | None:
        """At most half the micro-batch and the same global batch; None where the micro-batch is 1 already."""
        smaller = range(self.micro_batch // 2, 0, -1)
        fitting = [micro_batch for micro_batch in smaller if self.batch_size % (micro_batch * self.data_ranks) == 0]
        return replace(self, micro_batch=fitting[0]) if fitting else None

    def _check_batch(self) -> None:
        for name in ("batch_size", "micro_batch", "ranks", "tensor_parallel", "sequence_parallel"):
            value = getattr(self, name)
            require(value >= 1, f"training.{name}", value, "must be at least 1", f"training.{name}=2")
        shared = self.tensor_parallel * self.sequence_parallel
        require(
            self.ranks % shared == 0,
            "training.ranks",
            self.ranks,
            f"is no multiple of training.tensor_parallel={self.tensor_parallel} times "
            f"training.sequence_parallel={self.sequence_parallel}",
            f"training.ranks={shared * max(1, self.ranks // shared)}",
        )
        share = self.micro_batch * self.data_ranks
        on = f"on {self.ranks} ranks" if shared == 1 else f"on {self.data_ranks} groups of {shared} ranks"
        require(
            self.batch_size % share == 0,
            "training.batch_size",
            self.batch_size,
            f"does not divide into micro-batches of {self.micro_batch} {on}",
            f"training.batch_size={max(1, round(self.batch_size / share)) * share}",
        )

        require(
            0 <= self.min_ranks <= self.ranks,
            "training.min_ranks",
            self.min_ranks,
            f"must lie between 0 (all of them) and training.ranks={self.ranks}",
            f"training.min_ranks={self.ranks}",
        )

    def _check_schedule(self) -> None:
        require(self.lr > 0, "training.lr", self.lr, "must be above 0", "training.lr=0.001")
        require(
            0 <= self.warmup_steps < self.steps,
            "training.warmup_steps",
            self.warmup_steps,
            f"must be 0 or more and below training.steps={self.steps}",
            f"training.warmup_steps={self.steps // 20}",
        )
        require_choice("training.schedule", self.schedule, SCHEDULES)
        require_choice("training.decay_shape", self.decay_shape, DECAY_SHAPES)
        share = self.decay_share
        require(0 < share <= 1, "training.decay_share", share, "must lie in (0, 1]", "training.decay_share=0.2")

    def _check_optimizer(self) -> None:
        require_choice("training.optimizer", self.optimizer, OPTIMIZERS)
        for name in ("min_lr_ratio", "beta1", "beta2"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"training.{name}", value, "must lie between 0 and 1", f"training.{name}=0.9")
        for name in ("weight_decay", "eps", "clip_grad"):
            value = getattr(self, name)
            require(value >= 0, f"training.{name}", value, "must be 0 or more", f"training.{name}=0.1")
        momentum, ratio = self.muon_momentum, self.muon_lr_ratio
        key = "training.muon_momentum"
        require(0 <= momentum < 1, key, momentum, "must lie in [0, 1)", f"{key}=0.95")
        require(ratio > 0, "training.muon_lr_ratio", ratio, "must be above 0", "training.muon_lr_ratio=1")
        require(
            self.optimizer != "adamw8bit" or self.engine == "plain" or self.zero_stage == 0,
            "training.optimizer",
            self.optimizer,
            f"needs whole tensors, which training.zero_stage={self.zero_stage} cuts into pieces",
            "training.zero_stage=0, or training.optimizer=adamw",
        )

    def _check_engine(self) -> None:
        require_choice("training.engine", self.engine, ENGINES)
        require_choice("training.precision", self.precision, PRECISIONS)
        require_choice("training.recompute", self.recompute, RECOMPUTES)
        shared = self.sequence_parallel * self.tensor_parallel
        key = "training.compile"
        require(shared == 1 or not self.compile, key, self.compile, "is not for ranks that share", f"{key}=false")
        key = "training.tensor_parallel"
        size = self.tensor_parallel
        require(
            size == 1 or self.sequence_parallel == 1, key, size, "is not for ranks that share sequences", f"{key}=1"
        )
        require(size == 1 or self.optimizer == "adamw", key, size, "is for training.optimizer=adamw", f"{key}=1")
        require(size == 1 or self.zero_stage > 0, key, size, "needs ZeRO", "training.zero_stage=1, 2 or 3")
        stages = "training.zero_stage"
        require(0 <= self.zero_stage <= 3, stages, self.zero_stage, "must be 0, 1, 2 or 3", f"{stages}=1")
        require(
            self.engine != "plain" or self.ranks == 1,
            "training.ranks",
            self.ranks,
            "needs training.engine=deepspeed: the plain engine has one rank",
            "training.ranks=1 or training.engine=deepspeed",
        )

    def _check_offload(self) -> None:
        key = "training.offload"
        require_choice(key, self.offload, OFFLOADS)
        if self.offload == "none":
            return
        require(
            self.engine == "deepspeed" and self.zero_stage > 0,
            key,
            self.offload,
            "needs ZeRO: training.engine=deepspeed and training.zero_stage=1, 2 or 3",
            "training.zero_stage=3, or training.offload=none",
        )
        require(
            self.offload != "nvme" or self.zero_stage == 3,
            key,
            self.offload,
            f"needs training.zero_stage=3, and it is {self.zero_stage}",
            "training.zero_stage=3, or training.offload=cpu",
        )
        require(
            self.offload != "nvme" or bool(self.offload_folder),
            "training.offload_folder",
            self.offload_folder,
            "must name a folder on the NVMe disk for training.offload=nvme",
            "training.offload_folder=/local_nvme/offload",
        )

    def _check_guard(self) -> None:
        require_choice("training.spike", self.spike, SPIKES)
        require(
            self.spike != "rewind" or self.checkpoint_every > 0,
            "training.spike",
            self.spike,
            "goes back to checkpoints, and training.checkpoint_every=0 makes none",
            "training.checkpoint_every=100, or training.spike=skip",
        )
        sigmas, window = self.spike_sigmas, self.spike_window
        require(sigmas > 0, "training.spike_sigmas", sigmas, "must be above 0", "training.spike_sigmas=6")
        require(window >= 4, "training.spike_window", window, "must be at least 4", "training.spike_window=128")
        for name in ("max_rewinds", "hang_timeout_s"):
            value = getattr(self, name)
            require(value >= 0, f"training.{name}", value, "must be 0 or more", f"training.{name}=0")

    def _check_privacy(self) -> None:
        against = {
            f"needs training.engine=plain, and it is {self.engine}": self.engine != "plain",
            "does not go with training.precision=fp16, whose loss scale moves with the data": self.precision == "fp16",
            f"does not go with training.spike={self.spike}: which steps are left out would tell of the rows": (
                self.spike != "off"
            ),
            "does not go with training.compile: hooks find the gradients of single rows": self.compile,
            "does not go with training.recompute=blocks: hooks find the gradients of single rows": (
                self.recompute != "none"
            ),
        }
        for why, holds in against.items():
            if holds:
                refuse_private(self.privacy, why)
