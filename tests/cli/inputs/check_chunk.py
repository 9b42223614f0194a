"""check_chunk.py FOLDER: what attn-run wrote is what NumPy computes, and lse has its shape."""
import os
import sys

import numpy as np

o, want, lse = (np.load(os.path.join(sys.argv[1], name + ".npy")) for name in ("o", "want_o", "lse"))
assert o.dtype == np.float32 and o.shape == want.shape and lse.shape == o.shape[:3], (o.shape, lse.shape)
assert np.abs(o - want).max() < 2e-6, np.abs(o - want).max()
