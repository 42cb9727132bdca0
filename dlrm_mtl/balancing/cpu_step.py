"""A whole step of the layer in C, for a CPU: see ``cpu_step.c``."""

import ctypes
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from dlrm_mtl.balancing.exchange.direct_exchange import DirectExchange
from dlrm_mtl.balancing.exchange.shared_sums import COMPLETE
from dlrm_mtl.balancing.kernels.c_library import c_library
from dlrm_mtl.balancing.kernels.c_structures import DTYPES, MAX_TASKS, Exchange, Gradients, Method
from dlrm_mtl.balancing.kernels.finite import host_may_look
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.record import BalancingRecord

_Pairs = ctypes.c_double * (MAX_TASKS * MAX_TASKS)
_Tasks = ctypes.c_double * MAX_TASKS


class CpuDecision(ctypes.Structure):
    """What a step decides, as in the source: a record, until somebody asks for tensors."""

    gramian: "ctypes.Array[ctypes.c_double]"
    statistic: "ctypes.Array[ctypes.c_double]"
    coefficients: "ctypes.Array[ctypes.c_double]"
    task_weights: "ctypes.Array[ctypes.c_double]"
    broken: "ctypes.Array[ctypes.c_int]"
    any_broken: int
    finite: int
    _fields_ = (
        ("gramian", _Pairs),
        ("statistic", _Pairs),
        ("coefficients", _Tasks),
        ("task_weights", _Tasks),
        ("broken", ctypes.c_int * MAX_TASKS),
        ("any_broken", ctypes.c_int),
        ("finite", ctypes.c_int),
    )

    def record(self, num_tasks: int) -> BalancingRecord:
        """It as tensors."""
        values = (self.statistic[: num_tasks * num_tasks], self.coefficients[:num_tasks], self.task_weights[:num_tasks])
        gramian, *others = (torch.tensor(numbers, dtype=torch.float64, device="cpu") for numbers in values)
        return BalancingRecord(gramian.view(num_tasks, num_tasks), *others)


class CpuStep:
    """One step: of these gradients, by this method."""

    def __init__(self, functions: "StepFunctions", gradients: Sequence[Tensor], method: Method) -> None:
        self.decision = CpuDecision()
        self._functions = functions
        self._tensors = gradients  # kept alive
        self._gradients = Gradients.of(gradients)
        self._method = method
        self._combined = torch.empty_like(gradients[0])
        self.num_tasks = len(gradients)
        self.pairs = self.num_tasks**2

    def balance(
        self,
        losses: Sequence[float] | None,
        statistic: Sequence[float] | None = None,
        otherwise: Sequence[float] | None = None,
    ) -> Tensor:
        """A whole step, in which nothing is reduced.

        Args:
            losses: of this rank, if known.
            statistic: (M * M) what the coefficients come from, if it is not these gradients' Gramian.
            otherwise: coefficients of the step before, if that is another step's.

        Returns:
            The balanced gradient.
        """
        self._functions.balance(
            *(self.decision, self._method, self._gradients, _doubles(losses), None, 0, 0, 1.0),
            *(_doubles(statistic), _doubles(otherwise), self._combined.data_ptr()),
        )
        return self._combined

    def balance_in_exchange(
        self,
        losses: Sequence[float] | None,
        exchange: DirectExchange,
        sent: int,
        awaited: int,
        scale: float,
        otherwise: Sequence[float] | None,
    ) -> Tensor | None:
        """A whole step of a rank, whose coefficients come from a sum over ranks.

        Args:
            sent: number of the sum that this step's Gramian goes into, divided by ``scale``.
            awaited: number of the sum that the coefficients come from.

        Returns:
            None, if that is not complete: then it is to be waited for, and settled.
        """
        outcome = self._functions.balance(
            *(self.decision, self._method, self._gradients, _doubles(losses), exchange.form, sent, awaited, scale),
            *(None, _doubles(otherwise), self._combined.data_ptr()),
        )
        return self._combined if outcome == COMPLETE else None

    def measure(self, losses: Sequence[float] | None) -> list[float]:
        """This rank's Gramian, (M * M)."""
        self._functions.measure(self.decision, self._method, self._gradients, _doubles(losses))
        return self.decision.gramian[: self.pairs]

    def settle(self, statistic: Sequence[float], otherwise: Sequence[float] | None) -> Tensor:
        """The rest of a step after :meth:`measure`; the arguments are those of :meth:`balance`."""
        self._functions.settle(
            *(self.decision, self._method, self._gradients),
            *(_doubles(statistic), _doubles(otherwise), self._combined.data_ptr()),
        )
        return self._combined


class StepFunctions:
    """The compiled functions; their arguments are those of the source."""

    def __init__(self, library: ctypes.CDLL) -> None:
        of_step = (ctypes.POINTER(CpuDecision), ctypes.POINTER(Method), ctypes.POINTER(Gradients))
        numbers, number, real = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_double
        self.measure = library.measure
        self.measure.argtypes = [*of_step, numbers]
        self.measure.restype = None
        self.settle = library.settle
        self.settle.argtypes = [*of_step, numbers, numbers, ctypes.c_void_p]
        self.settle.restype = None
        self.balance = library.balance
        exchanging = (ctypes.POINTER(Exchange), number, number, real)
        self.balance.argtypes = [*of_step, numbers, *exchanging, numbers, numbers, ctypes.c_void_p]
        self.balance.restype = ctypes.c_int


def cpu_step(gradients: Sequence[Tensor | None], balancer: Balancer) -> CpuStep | None:
    """A step of these gradients, if it may be taken in C: on a CPU, where the host may look, by a method that has such
    steps and of which nothing is overridden. None among them is a task without a gradient: zeros."""
    first = next((gradient for gradient in gradients if gradient is not None), None)
    if first is None or not host_may_look(first) or first.dtype not in DTYPES or len(gradients) > MAX_TASKS:
        return None
    given = [torch.zeros_like(first) if gradient is None else gradient for gradient in gradients]
    suit = all(type(gradient) is Tensor and gradient.is_contiguous() for gradient in given)
    functions = _functions() if suit else None
    method = balancer.method_in_c() if functions is not None and balancer.may_step_in_c else None
    return None if functions is None or method is None else CpuStep(functions, given, method)


@lru_cache
def _functions() -> StepFunctions | None:
    library = c_library()
    return None if library is None else StepFunctions(library)


def _doubles(values: Sequence[float] | None) -> "ctypes.Array[ctypes.c_double] | None":
    return None if values is None else (ctypes.c_double * len(values))(*values)
