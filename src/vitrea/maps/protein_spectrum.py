"""How strong the Fourier shells of proteins are: alike in all of them beyond 10 Å.

Distances that come again and again in folded chains, helices and sheets, give a spectrum that dips at 6.5 Å and peaks
at 4.5 Å; finer than 4 Å it falls with the atoms' scattering factors. A straight line through the Guinier plot of a map
at 7 Å takes the way down into the dip for damping, and so suggests too much sharpening.

The table is the mean over beta-galactosidase (PDB entry 5A1A), apoferritin (7A4M) and the 20S proteasome (3J9I), in
ice, with B-factors of 0: ``benchmarks/protein_spectrum.py`` computes it. They differ by 0.07 at 10 to 8 Å and by 0.05
and less beyond (standard deviation of ln). The 30S ribosomal subunit, mostly RNA, differs from them by up to 0.15.

References
----------
Morris, Blanc & Bricogne (2004), doi:10.1107/S0907444903025538: the mean intensities of proteins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FREQUENCY = np.arange(0.10, 0.601, 0.02)  # 1/Å
_LOG_AMPLITUDE = np.array(
    [
        *(0.05, -0.08, -0.15, -0.16, -0.05, 0.14, 0.18, 0.07, -0.03, -0.15, -0.27, -0.39, -0.47),
        *(-0.54, -0.58, -0.585, -0.59, -0.61, -0.62, -0.655, -0.72, -0.79, -0.85, -0.91, -0.96, -1.00),
    ]
)


def protein_amplitudes(frequency: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the root mean square amplitude of protein shells, in units of their mean between 10 and 4 Å.

    Parameters
    ----------
    frequency : ndarray, any shape
        1/Å.

    Returns
    -------
    ndarray, shape of `frequency`
        Of atoms at rest. Below 1/10 Å, where the shape of each molecule decides, and beyond 1/1.67 Å, the nearest
        value known.
    """
    return np.asarray(np.exp(np.interp(frequency, _FREQUENCY, _LOG_AMPLITUDE)), dtype=np.float64)
