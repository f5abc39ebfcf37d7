"""Is a user's model what a measurement assumes: a function of its parameters and of each sample alone?

Looked at before anything is measured, by a few forward passes over at most 256 samples of the user's own module, set to other
parameters in place and put back to the bit. What can be run rightly is: a model whose copy is not the same is measured itself, one that
mixes samples of a batch runs each landscape in one piece, and what a pass keeps is put back before the next. The rest is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from minima_volume.errors import ConfigError
from minima_volume.hosts.host import Host, put_back
from minima_volume.hosts.kept_state import KeptState, same
from minima_volume.hosts.outputs import close, detached, identical, plain
from minima_volume.hosts.passes import draw_something, equal_states, first_pass, uneven, write
from minima_volume.samples import Samples, copied, count, each, part, tensors
from minima_volume.seeding import random_states

GRAPH_SAMPLES = 8  # of the pass that keeps its graph
SHIFTS = (1.0, 0.1, 0.01)  # standard deviations that parameters are moved by; the first that leaves outputs finite
NOTHING = KeptState(nn.Module()).only(())  # puts nothing back

Score = Callable[[Any], Tensor]


@dataclass(frozen=True)
class Findings:
    """What a probe found out about a model; see `Host` for what is done about it.

    Attributes:
        written: paths of what a pass leaves changed.
        emptied: paths of what is emptied before each pass.
        rewritten: names of the parameters that a pass writes to.
        draws, coupled, notes: as of the host.
    """

    written: frozenset[str]
    emptied: frozenset[str]
    rewritten: tuple[str, ...]
    draws: bool
    coupled: bool = False
    notes: tuple[str, ...] = ()

    def equip(self, host: Host) -> Host:
        """Give a host what was found, in the places of its own module."""
        host.coupled, host.draws, host.notes = self.coupled, self.draws, self.notes
        host.rewritten = tuple(host.parameters(self.rewritten))
        if self.written or self.emptied:
            state = KeptState(host.module)
            host.emptied = tuple(p for p in state.places if p.path in self.emptied and p.empty is not None)
            host.kept = state.only(self.written | self.emptied)
        return host


class Probe:
    """The passes of one probe, at the user's own module in evaluation mode.

    Args:
        model: the user's.
        x: samples to look at.
        names: of the parameters that will be perturbed.
        score: outputs -> a loss of the user's own, which may read more than the outputs.
    """

    def __init__(self, model: nn.Module, x: Samples, names: Sequence[str], score: Score | None = None) -> None:
        self.model, self.x, self.names, self.score = model, x, names, score
        self.notes: list[str] = []

    def look(self, must_be_felt: bool = True) -> Findings:
        """Run the model twice, elsewhere and back, and in two pieces."""
        state, before = KeptState(self.model), random_states()
        dense = {name: p for name, p in self.model.named_parameters() if p.layout == torch.strided}
        with put_back([*dense.values()]) as saved:
            first = first_pass(Host(self.model), self.x)
            held = zip(dense.items(), saved, strict=True)
            rewritten = tuple(name for (name, parameter), tensor in held if not same(parameter.detach(), tensor))
        draws = not equal_states(before, random_states())
        written = state.changed()
        state.put_back()
        found = Findings(frozenset(written), frozenset(), rewritten, draws)
        found = replace(found, emptied=self._to_empty(found.equip(Host(self.model))))
        self.own = found.equip(Host(self.model))
        if found.emptied:
            self._say_if_emptying_matters(first, found.emptied)
            first = self.own.run(self.x)
        self._require_same(first, self._again(), "gives other outputs for the same inputs and parameters")
        if self.score is not None:  # a loss that is scaled by its first value is so at the minimum
            self._loss(first)
        self.moved = self._elsewhere()
        self._require_same(
            first, self.own.run(self.x), "gives other outputs after its parameters were moved and put back"
        )
        self._require_outputs_to_be_all(found)
        if must_be_felt:
            self.unused = self._unused()
            self._require_felt(first)
        return replace(found, coupled=self._mixes(first), notes=tuple(self.notes))

    def copied(self, found: Findings, device: torch.device | None) -> tuple[Host | None, str]:
        """A copy that computes what the model computes elsewhere, or None and why there is none."""
        try:
            host = Host.copy_of(self.model)
        except Exception as error:  # whatever stops a user's module from being copied
            return None, f"it cannot be copied ({' '.join(str(error).split())[:150]})"
        if {id(p) for p in host.module.parameters()} & {id(p) for p in self.model.parameters()}:
            return None, "its copy shares parameters with it"
        found.equip(host)
        parameters, state = host.parameters(self.names), KeptState(host.module)
        saved = [parameter.detach().clone() for parameter in parameters]
        write(parameters, self.there)
        there = Host(host.module, emptied=host.emptied, kept=NOTHING, draws=found.draws, rewritten=host.rewritten)
        try:
            outputs, reads_more = there.run(self.x), False
            alike = close(outputs, self.moved)
            if alike and self.moved_loss is not None:
                reads_more = not close(self._loss(outputs), self.moved_loss)
        except Exception:  # a copy that does not run is none
            alike = False
        # what hangs on functions is shared with the original, what hangs on modules is not: two places may have been one
        written = frozenset(state.changed())
        state.put_back()
        write(parameters, saved)
        found = replace(found, written=found.written | written)
        found.equip(host)
        if not alike:
            return (
                None,
                "its copy still runs the original's parameters (a hook or a replaced forward refers to the original)",
            )
        if reads_more:
            return None, "the loss reads the parameters of the model that was given, not of a copy"
        if device is not None and device != next(self.model.parameters()).device:
            try:
                host.module.to(device)
                found.equip(host)
                host.run(each(self.x, lambda tensor: tensor.to(device)))
            except Exception as error:
                return None, f"its copy does not run there ({' '.join(str(error).split())[:150]})"
        return host, ""

    def _to_empty(self, host: Host) -> frozenset[str]:
        """What the model keeps and fills again when it is empty: hidden states, caches of weights."""
        state, few, found = KeptState(self.model), part(self.x, 0, min(2, count(self.x))), set()
        for place in state.places:
            if place.empty is None:
                continue
            place.empty()
            emptied = KeptState(self.model)
            try:
                Host(self.model, rewritten=host.rewritten).run(few)
                if place.path in emptied.changed():
                    found.add(place.path)
            except Exception:  # it cannot do without: a constant
                pass
            state.put_back()
        return frozenset(found)

    def _say_if_emptying_matters(self, first: Any, emptied: frozenset[str]) -> None:
        if not close(first, self.own.run(self.x)):
            self.notes.append(
                f"{', '.join(sorted(emptied))} of an earlier pass was not used: it is emptied before each pass"
            )

    def _again(self) -> Any:
        """Outputs of a second pass, where a model that draws random numbers draws others."""
        draw_something()
        return self.own.run(self.x)

    def _unused(self) -> list[str]:
        """The parameters that no derivative of the outputs reaches."""
        parameters = self.own.parameters(self.names)
        flags = [parameter.requires_grad for parameter in parameters]
        try:
            with torch.enable_grad():
                for parameter in parameters:
                    parameter.requires_grad_(True)
                outputs = self.own.run(part(self.x, 0, GRAPH_SAMPLES))
                total = sum(tensor.sum() for tensor in tensors(plain(outputs)) if tensor.requires_grad)
                if not isinstance(total, Tensor):
                    return list(self.names)
                gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        except RuntimeError:  # no derivative: nothing is known, and nothing is claimed
            return []
        finally:
            for parameter, flag in zip(parameters, flags, strict=True):
                parameter.requires_grad_(flag)
        return [name for name, gradient in zip(self.names, gradients, strict=True) if gradient is None]

    def _elsewhere(self) -> Any:
        """Outputs with every parameter moved."""
        parameters = self.own.parameters(self.names)
        here = [parameter.detach().clone() for parameter in parameters]
        generator = torch.Generator().manual_seed(0)
        steps = []
        for tensor in here:
            size = float(tensor.double().std()) if tensor.numel() > 1 else abs(float(tensor))
            step = torch.randn(tensor.shape, generator=generator, dtype=torch.float32, device="cpu")
            steps.append(step.to(tensor.device, tensor.dtype) * (size or 0.1))
        with put_back(parameters):
            for shift in SHIFTS:
                self.there = [tensor + shift * step for tensor, step in zip(here, steps, strict=True)]
                write(parameters, self.there)
                outputs = self.own.run(self.x)
                if all(bool(tensor.isfinite().all()) for tensor in tensors(plain(outputs))):
                    break
            self.moved_loss = None if self.score is None else self.own.run(self.x, self._loss)
        return outputs

    def _loss(self, outputs: Any) -> Tensor | None:
        """A user's own loss, which may work on the outputs in place; None where it cannot be had of these samples alone."""
        assert self.score is not None
        try:
            return self.score(copied(outputs))
        except Exception:  # what is wrong with it is said where it is fitted
            return None

    def _require_outputs_to_be_all(self, found: Findings) -> None:
        """Refuse a loss that reads what the last pass left in the model or beside it, or parameters that it wrote to."""
        if self.moved_loss is None:
            return
        self.own.run(self.x)  # now the last pass is another one
        parameters = self.own.parameters(self.names)
        with put_back(parameters):
            write(parameters, self.there)
            after, again = self._loss(self.moved), self._loss(self.moved)
        if after is None or not close(after, again) or close(self.moved_loss, after):
            return
        if found.rewritten:
            raise ConfigError(
                f"the loss reads parameters that the forward pass of {type(self.model).__name__} writes to ({', '.join(found.rewritten[:3])}): "
                "write to them outside forward, or by a parametrization (torch.nn.utils.parametrize)"
            )
        raise ConfigError(
            f"the loss reads what a forward pass of {type(self.model).__name__} leaves behind (an attribute, or what a hook collects), "
            "not its outputs alone: return it from forward, e.g. as a tuple (outputs, hidden), which the loss then takes"
        )

    def _require_felt(self, first: Any) -> None:
        if set(self.unused) == set(self.names) and identical(first, self.moved):
            raise ConfigError(
                f"none of the perturbed parameters of {type(self.model).__name__} ({', '.join(self.names[:3])}"
                f"{', ...' if len(self.names) > 3 else ''}) takes part in its forward pass: nothing would be measured. Choose others "
                "with names, or clear what the model keeps of its weights"
            )
        if self.unused and len(self.unused) < len(self.names) and not self._feels(self.unused, first):
            numbers = {name: tensor.numel() for name, tensor in self.model.named_parameters()}
            some, total = (sum(numbers[name] for name in names) for names in (self.unused, self.names))
            shown = ", ".join(self.unused[:3]) + (", ..." if len(self.unused) > 3 else "")
            self.notes.append(f"{some:,} of the {total:,} perturbed entries take no part in the forward pass: {shown}")

    def _feels(self, names: Sequence[str], first: Any) -> bool:
        """Whether outputs change with these parameters, by steps where not by derivatives."""
        parameters = self.own.parameters(names)
        with put_back(parameters):
            write(parameters, [there for name, there in zip(self.names, self.there, strict=True) if name in names])
            return not identical(first, self.own.run(self.x))

    def _mixes(self, first: Any) -> bool:
        """Whether two pieces of the batch give other outputs than the whole."""
        samples = count(self.x)
        if samples < 2:
            return False
        cut = uneven(samples)
        try:
            pieces = [self.own.run(part(self.x, start, stop)) for start, stop in ((0, cut), (cut, samples))]
        except Exception:  # it takes whole batches only
            return True
        whole = tensors(plain(first))
        found = [tensors(plain(piece)) for piece in pieces]
        if not all(len(piece) == len(whole) for piece in found):
            return True
        for i, tensor in enumerate(whole):
            parts = [piece[i] for piece in found]
            if tensor.ndim == 0 or len(tensor) != samples:
                continue  # one number of the whole batch: what it means is the loss's business
            # a model that squeezes drops the dimension of a single sample
            if cut == 1 and parts[0].numel() == tensor[0].numel():
                parts[0] = parts[0].reshape(1, *tensor.shape[1:])
            parts = [p.reshape(1) if p.ndim == 0 else p for p in parts]
            if sum(len(p) for p in parts) != samples or any(p.shape[1:] != tensor.shape[1:] for p in parts):
                return True
            if not close(torch.cat(parts), tensor):
                return True
        return False

    def _require_same(self, first: Any, again: Any, fault: str) -> None:
        if close(first, again):
            return
        raise ConfigError(
            f"{self._culprit()} {fault}: a volume needs a model whose outputs depend on its parameters and inputs alone. "
            "Switch the randomness off, or clear what the module keeps"
        )

    def _culprit(self) -> str:
        """The innermost module whose outputs differ between two passes though its inputs do not."""
        passes: list[list[tuple[nn.Module, Any, Any]]] = []
        for _ in range(2):
            draw_something()
            calls: list[tuple[nn.Module, Any, Any]] = []

            def keep(module: nn.Module, inputs: Any, outputs: Any, calls: list[Any] = calls) -> None:
                calls.append((module, *(copy.deepcopy(detached(values)) for values in (inputs, outputs))))

            handle = register_module_forward_hook(keep)
            try:
                self.own.run(self.x)
            finally:
                handle.remove()
            passes.append(calls)
        names = {id(module): name for name, module in self.model.named_modules()}
        for (module, inputs, first), (_, others, second) in zip(*passes, strict=False):
            if close(inputs, others) and not close(first, second):
                where = names.get(id(module), "")
                return f"module {where!r} ({type(module).__name__})" if where else f"model {type(module).__name__}"
        return f"model {type(self.model).__name__}"
