"""Builds the C functions of the balancing layer, if there is a C compiler; everything else is in pyproject.toml."""

from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

SOURCES = Path("dlrm_mtl/balancing/kernels/c")
OPENMP = "-fopenmp"


class BuildExtension(build_ext):
    """Without OpenMP, for one thread, where the compiler has none."""

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except (CompileError, LinkError):
            ext.extra_compile_args.remove(OPENMP)
            ext.extra_link_args.remove(OPENMP)
            super().build_extension(ext)


setup(
    ext_modules=[
        Extension(
            "dlrm_mtl.balancing.kernels.c_functions",
            sources=[str(path) for path in sorted(SOURCES.glob("*.c"))],
            depends=[str(path) for path in sorted(SOURCES.glob("*.h"))],
            # No -ffast-math: NaN and infinity must stay, and linking with it changes the arithmetic of the process.
            extra_compile_args=["-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", OPENMP],
            extra_link_args=[OPENMP],
            py_limited_api=True,
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
