"""Training steps on a GPU as CUDA graphs: a step is one launch instead of hundreds, and never waits for the host.

Small networks leave most of a GPU idle, between launches and within them. So the whole step, from the indices of a
batch to the new weights, is recorded once and replayed, and the runs of a pack take their steps in one graph, as one
wide network. What changes from step to step (order, views, learning rate) lies on the device before the epoch begins.
The arithmetic is that of `loop._steps`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.studies import Run
from kdlib.training import process, wide
from kdlib.training.checkpoint import State
from kdlib.training.inference import autocast
from kdlib.training.objective import gradient_norms, loss_of
from kdlib.training.schedule import batch_bounds, epoch_plan, learning_rate, make_optimizer
from kdlib.training.teacher import Teacher
from kdlib.training.views import AnyViews, Views, on

PACK = 4  # runs at most in a wide network
PATIENCE = 2.0  # seconds that a pack waits for another run, where several train at a time
WARM_UP = 2  # steps before recording, in which libraries choose their kernels and take their memory
AHEAD = 4  # steps launched between two looks at whether the device has come that far
MOMENTUM = "momentum_buffer"  # as torch calls it
SAME = ("model", "data", "augment", "epochs", "batch_size", "optimizer", "lr", "momentum", "weight_decay", "schedule")


def can_graph(run: Run, model: nn.Module, views: AnyViews, teacher: Teacher | None) -> bool:
    """Whether a run's steps can be recorded: images on a GPU, SGD, a network of ours that draws nothing.

    What a network draws in training (dropout) would be the same at every replay of a graph.
    """
    if views.labels.device.type != "cuda" or type(views) is not Views or "@" in run.model or run.optimizer != "sgd":
        return False
    if teacher is not None and teacher.table is not None and not isinstance(teacher.table, Tensor):
        return False  # too large for this GPU, so it is read from the host
    return not any(_draws(module) for module in model.modules())


def _draws(module: nn.Module) -> bool:
    """Whether a layer drops at random in training: torch's dropouts have a rate p, timm's a drop_prob."""
    rate = getattr(module, "p", None) or getattr(module, "drop_prob", None)
    return "Drop" in type(module).__name__ and bool(rate)


class Member:
    """A run in a pack, and what of it lies on the device."""

    def __init__(self, run: Run, state: State, views: Views, teacher: Teacher | None) -> None:
        self.run, self.state, self.views, self.teacher = run, state, views, teacher
        n, device = len(views.labels), views.labels.device
        self.order, self.view = (torch.zeros(n, dtype=torch.int64, device=device) for _ in range(2))
        self.losses = torch.zeros(len(batch_bounds(n, run.batch_size)), device=device)
        self.norms: dict[str, Tensor] = {}
        self.noted = True  # whether `state` has the norms of this epoch


_open: dict[Any, Pack] = {}  # those that wait for members


class Infected(Exception):
    """A loss in a pack is not finite: 0 times infinity is not 0, so it may come from another member."""


def joined(
    run: Run, state: State, views: Views, teacher: Teacher | None, *, alone: bool
) -> Generator[None, None, tuple[Pack, Member]]:
    """A run's place in a pack, when that is complete or has waited long enough. Yields until then."""
    alike = [str(getattr(run, name)) for name in SAME]
    key = json.dumps([*alike, run.precision, run.warmup, state.data, state.epoch, state.step, str(views.labels.device)])
    most = PACK if type(state.model) in wide.NARROW else 1
    pack = Pack() if alone else _open.setdefault(key, Pack())
    pack.members.append(member := Member(run, state, views, teacher))
    pack.until = time.monotonic() + (PATIENCE if process.at_once > 1 else 0)
    while _open.get(key) is pack and len(pack.members) < most and time.monotonic() < pack.until:
        yield
    if _open.get(key) is pack:
        del _open[key]
    return pack, member


class Pack:
    """Runs of one recipe whose steps are one graph, on a stream of its own.

    There is a graph for each kind of step: the first of an epoch, which also notes gradients, those after it, and a
    smaller last one. A step is launched when all members want it; their states count it at once. Their weights stay in
    the wide network until `give_back`. On a device that is no GPU the same steps are taken without recording.
    """

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.until = 0.0
        self.network: nn.Module | None = None  # not built yet, or to be built again for those that are left
        self.wanted_by: set[int] = set()
        self.launched: list[torch.cuda.Event] = []
        self.given_back = True
        self.infected = False

    def steps(self, member: Member) -> Iterator[None]:
        """Take the steps that are left of the member's current epoch, yielding after each and while it waits."""
        with self._on_stream(member):
            _fill(member)
        state, count = member.state, len(member.losses)
        while (step := state.step) < count:
            self.wanted_by.add(id(member))
            while state.step == step:
                if len(self.wanted_by) == len(self.members) and not self._behind():
                    with self._on_stream(member):
                        self._launch()
                else:
                    yield
            yield

    def finished(self, member: Member) -> Iterator[None]:
        """Yields until the device has done what was launched."""
        if self.device.type == "cuda":
            event = torch.cuda.Event()
            event.record(self.stream)
            while not event.query():
                yield

    def note(self, member: Member) -> None:
        """Bring losses and norms from the device into the member's state. Waits for the device. Raises Infected."""
        with self._on_stream(member):
            losses = member.losses[: member.state.step].cpu()
            self._check(losses.isfinite())
            member.state.losses = [*losses.unbind()]
            if not member.noted:
                member.state.history[-1] |= {name: norm.item() for name, norm in member.norms.items()}
                member.noted = True

    @torch.no_grad()
    def give_back(self) -> None:
        """Copy weights and moments of the wide network into the states of its members. Waits for the device.

        Raises Infected.
        """
        if self.given_back:
            return
        with self._on_stream(self.members[0]):
            self._check(torch.stack([weight.isfinite().all() for weight in self.weights]))
            self.given_back = True
            moments = {name: self.optimizer.state.get(weight, {}) for name, weight in self.network.named_parameters()}
            for at, member in enumerate(self.members):
                own = member.state.model.state_dict()
                for name, value in self.network.state_dict().items():
                    own[name].copy_(wide.part(value, own[name], at))
                for name, weight in member.state.model.named_parameters():
                    if (whole := moments[name].get(MOMENTUM)) is not None:
                        mine = torch.empty_like(weight).copy_(wide.part(whole, weight, at))
                        member.state.optimizer.state[weight][MOMENTUM] = mine
            if self.device.type == "cuda":
                self.stream.synchronize()

    def leave(self, member: Member) -> None:
        """The others go on without this member: what it trained is in its state."""
        if self.network is not None and not self.infected:
            self.give_back()
        self.members.remove(member)
        self.wanted_by.discard(id(member))
        self.network = None

    def _check(self, finite: Tensor) -> None:
        """Raise Infected, for every member, where what is not finite may come from another."""
        self.infected |= len(self.members) > 1 and not bool(finite.all())
        if self.infected:
            raise Infected

    # ------------------------------------------------------------------------------------------------------- the graphs

    def _on_stream(self, member: Member) -> Any:
        if not hasattr(self, "device"):
            self.device = member.views.labels.device
            self.stream = torch.cuda.Stream() if self.device.type == "cuda" else None
        if self.stream is None:
            return nullcontext()
        self.stream.wait_stream(torch.cuda.default_stream())
        return torch.cuda.stream(self.stream)

    def _behind(self) -> bool:
        """Whether the device has not come as far as it was told AHEAD steps ago."""
        return bool(self.launched) and not self.launched[0].query()

    def _launch(self) -> None:
        if self.network is None:
            self._build()
        states = [member.state for member in self.members]
        step = states[0].step
        start, end = self.bounds[step]
        if step == 0 or not self.ready:
            self._go_to(step, states[0].epoch)
            self.ready = True
        kind = end - start, step == 0
        if kind not in self.recorded:
            self.recorded[kind] = self._record(*kind)
            self._go_to(step, states[0].epoch)
        self.recorded[kind]()
        self.given_back = len(self.members) == 1
        self.wanted_by.clear()
        for member in self.members:
            if step == 0:
                member.state.history.append({"epoch": member.state.epoch})
                member.noted = False
            member.state.step = step + 1
        if self.device.type == "cuda" and step % AHEAD == 0:
            self.launched = [*self.launched[-1:], torch.cuda.Event()]
            self.launched[-1].record(self.stream)

    def _build(self) -> None:
        """The network of all members, with its optimizer, as they stand."""
        first, device = self.members[0], self.device
        self.run, self.bounds = first.run, batch_bounds(len(first.order), first.run.batch_size)
        self.rates = torch.zeros(len(self.bounds), device=device)
        self.start, self.at = (torch.zeros(1, dtype=torch.int64, device=device) for _ in range(2))
        self.recorded: dict[tuple[int, bool], Callable[[], None]] = {}
        self.ready, self.masks, self.given_back = False, {}, True
        self.network, self.optimizer = first.state.model, first.state.optimizer
        if len(self.members) > 1:
            self.network = wide.widened([member.state.model for member in self.members])
            self.optimizer = make_optimizer(self.run, self.network)
            self.masks = wide.masks(self.network, first.state.model)
            self._take_moments()
        named = {name: weight for name, weight in self.network.named_parameters() if weight.requires_grad}
        self.weights = [*named.values()]
        self.mixing = [at for at, name in enumerate(named) if name in self.masks]
        self.rate = torch.tensor(self.run.lr, device=device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate

    def _take_moments(self) -> None:
        """What the members' optimizers know, in that of the wide network."""
        for at, member in enumerate(self.members):
            for name, own in member.state.model.named_parameters():
                if (value := member.state.optimizer.state.get(own, {}).get(MOMENTUM)) is not None:
                    weight = self.network.get_parameter(name)
                    whole = self.optimizer.state[weight].setdefault(MOMENTUM, torch.zeros_like(weight))
                    wide.part(whole, own, at).copy_(value)

    def _go_to(self, step: int, epoch: int) -> None:
        """Stand before this step, with the learning rates of its epoch."""
        self.at.fill_(step)
        self.start.fill_(self.bounds[step][0])
        rates = [learning_rate(self.run, epoch + i / len(self.bounds)) for i in range(len(self.bounds))]
        self.rates.copy_(torch.tensor(rates))

    def _step(self, size: int, first: bool) -> None:
        rows = self.start + torch.arange(size, device=self.device)
        self.rate.copy_(self.rates[self.at].squeeze())
        batches = [(member.order[rows], member.view[rows]) for member in self.members]
        inputs = [member.views.batch(*batch) for member, batch in zip(self.members, batches, strict=True)]
        with autocast(self.run.precision, self.device):
            logits = self.network(torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0]).float()
        total = 0.0
        for member, (index, view), x, own in zip(
            self.members, batches, inputs, logits.chunk(len(inputs), dim=1), strict=True
        ):
            answers = member.teacher.logits(index, view, x) if member.teacher else None
            loss, terms = loss_of(member.run, own, answers, member.views.labels[index])
            if first:
                for name, norm in gradient_norms(terms, own).items():
                    member.norms.setdefault(name, torch.zeros_like(norm)).copy_(norm)
            member.losses[self.at] = loss.detach()
            total = total + loss
        gradients = [*torch.autograd.grad(total, self.weights)]
        if self.mixing:
            torch._foreach_mul_([gradients[at] for at in self.mixing], [*self.masks.values()])
        for weight, gradient in zip(self.weights, gradients, strict=True):
            alike = gradient.stride() == weight.stride()  # the optimizer takes memory as it lies
            weight.grad = gradient if alike else torch.empty_like(weight).copy_(gradient)
        self.optimizer.step()
        self.at += 1
        self.start += size

    def _record(self, size: int, first: bool) -> Callable[[], None]:
        """A function that takes one step. The state is as before when this returns."""
        before = [(value, value.clone()) for value in self._changing()]
        known = {id(value) for value, _ in before}
        for _ in range(WARM_UP):
            self.at.zero_(), self.start.zero_()
            self._step(size, first)
        self.at.zero_(), self.start.zero_()
        if self.device.type == "cuda":
            graph = torch.cuda.CUDAGraph()
            self.stream.synchronize()
            graph.capture_begin()
            try:
                self._step(size, first)
            finally:
                graph.capture_end()
        for weight in self.weights:
            weight.grad = None
        with torch.no_grad():
            for value, old in before:
                value.copy_(old)
            for value in self._changing():  # what an optimizer begins with is 0: so is what it has now
                if id(value) not in known:
                    value.zero_()
        return graph.replay if self.device.type == "cuda" else lambda: self._step(size, first)

    def _changing(self) -> list[Tensor]:
        """All that a step changes, beside where it stands."""
        moments = chain(*(values.values() for values in self.optimizer.state.values()))
        losses = [member.losses for member in self.members]
        return [*self.network.parameters(), *self.network.buffers(), *moments, *losses]


def _fill(member: Member) -> None:
    """Bring the order and views of the member's epoch to the device, and the losses of its steps so far."""
    state = member.state
    order, view = epoch_plan(member.run, state.epoch, len(member.order), member.views.count)
    for mine, drawn in zip((member.order, member.view), on(member.order.device, order, view[order]), strict=True):
        mine.copy_(drawn)
    if state.losses:
        member.losses[: state.step] = torch.stack(state.losses).to(member.losses.device)
