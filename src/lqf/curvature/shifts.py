"""The second moment of the patches of a 3 × 3 convolution, without patches.

Two entries k and l of a 3 × 3 kernel read the same map at two offsets, so the block of A that they
share is the map's correlation at the displacement D = l − k, up to the border:

    Σ_s x(s + k) x(s + l)ᵀ = Σ_p x(p) x(p + D)ᵀ − (what p = s + k misses at the border).

There are 81 blocks but 25 displacements, 13 up to transposition. With stride 1 and a border of one
zero, p misses a pair of pixels of the map only where k and l look over the same side: then both
lie in the outermost row (or column) opposite. Correlations of those rows and columns, and of the
corners counted twice, are subtracted.
"""

from torch import Tensor

from lqf.curvature.calls import LayerCall

# Offsets read by a kernel of 3, beside the pixel itself.
_OFFSETS = (-1, 0, 1)
# Smaller maps are mostly border, and patches are less work.
_SMALLEST = 4


def has_shifts(call: LayerCall) -> bool:
    """Return whether `shifted_moment` can be used for a layer.

    Args:
        call: the layer's call.

    Returns:
        True for a convolution of 3 × 3 with stride 1 and padding 1 whose map is not tiny.
    """
    geometry = call.geometry
    return (
        geometry is not None
        and geometry.kernel == (3, 3)
        and geometry.stride == geometry.padding == geometry.dilation == (1, 1)
        and call.groups == 1
        and min(call.inputs.shape[2:]) >= _SMALLEST
    )


def shifted_moment(inputs: Tensor, bias: bool) -> Tensor:
    """Return Σ_i Σ_s a_s a_sᵀ over the 3 × 3 patches of a map with a border of zeros.

    Args:
        inputs: b × c × H × W.
        bias: whether a constant 1 is appended to every patch.

    Returns:
        d × d with d = 9c [+ 1], in the order of a convolution's weight.
    """
    samples, channels, height, width = inputs.shape
    # Two zeros between rows and two rows of them between maps: a displacement is then an offset.
    padded = inputs.new_zeros(channels, samples, height + 2, width + 2)
    padded[:, :, :height, :width] = inputs.transpose(0, 1)
    flat = padded.flatten(1)
    whole = {
        (down, right): _correlation(flat, down * (width + 2) + right)
        for down in range(3)
        for right in range(-2 if down else 0, 3)
    }
    # Rows and columns as maps of one dimension; the first is missed by offset 1, the last by -1.
    border = {-1: -1, 1: 0}
    rows = {k: _line(padded[:, :, :height, :][:, :, border[k]]) for k in (-1, 1)}
    columns = {k: _line(padded[:, :, :, :width][:, :, :, border[k]]) for k in (-1, 1)}
    corners = {}
    for i in (-1, 1):
        for j in (-1, 1):
            corner = inputs[:, :, border[i], border[j]]
            corners[i, j] = corner.mT @ corner

    size = 9 * channels + int(bias)
    result = inputs.new_empty(size, size)
    # In a convolution's weight the channel comes first and the place in the kernel last.
    blocks = result[: 9 * channels, : 9 * channels].unflatten(0, (channels, 9))
    blocks = blocks.unflatten(2, (channels, 9))
    kernel = [(i, j) for i in _OFFSETS for j in _OFFSETS]
    for k, (top, left) in enumerate(kernel):
        for m, (bottom, right) in enumerate(kernel[k:], start=k):
            value = whole[bottom - top, right - left]
            down, across = bottom - top, right - left
            if top == bottom != 0:
                value = value - rows[top][across]
            if left == right != 0:
                value = value - columns[left][down]
                if top == bottom != 0:
                    value = value + corners[top, left]
            blocks[:, k, :, m] = value
            if m > k:
                blocks[:, m, :, k] = value.mT
    if bias:
        total = inputs.sum(0)
        sums = inputs.new_empty(channels, 9)
        for k, (i, j) in enumerate(kernel):
            # The pixels that this offset reads.
            part = total[:, max(i, 0) : height + min(i, 0), max(j, 0) : width + min(j, 0)]
            sums[:, k] = part.sum((1, 2))
        result[-1, :-1] = result[:-1, -1] = sums.flatten()
        result[-1, -1] = samples * height * width
    return result


def _correlation(flat: Tensor, offset: int) -> Tensor:
    return flat[:, : flat.shape[1] - offset] @ flat[:, offset:].mT


def _line(padded: Tensor) -> dict[int, Tensor]:
    """Return the correlations of lines c × b × (n + 2), two zeros at their ends, by displacement."""
    flat = padded.flatten(1)
    found = {offset: _correlation(flat, offset) for offset in range(3)}
    return found | {-offset: found[offset].mT for offset in (1, 2)}
