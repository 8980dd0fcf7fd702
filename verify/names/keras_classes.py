"""Every class that a Keras file may name: Keras's own harmless ones, and this project's.

A class that is missing here is refused, whatever it does; those that run code of the file's or
of somewhere else (`Lambda`, `TFSMLayer`, `TorchModuleWrapper`, `JaxLayer`, functions) must
never be added.
"""

from __future__ import annotations

__all__ = ["CLASSES", "MARKS", "MODULES", "OURS"]

_OURS = """
    NetVLADModel MatConvNetModel
    MeanSubtraction Convolution TransposedConvolution MaxPooling AveragePooling TotalPooling
    CrossChannelNormalization SpatialNormalization NormOffset BatchNormalization
    L2Normalization WholeL2Normalization NetVLAD Dropout
    Concatenation Sum Product Scale Crop Flatten AffineGrid BilinearSampling
"""

_MODELS = "Functional Sequential Model"
_LAYERS = """
    InputLayer Identity Activation ReLU LeakyReLU PReLU ELU Softmax
    Conv1D Conv2D Conv2DTranspose DepthwiseConv2D SeparableConv2D Dense EinsumDense
    MaxPooling2D AveragePooling2D GlobalMaxPooling2D GlobalAveragePooling2D
    GlobalMaxPool2D GlobalAvgPool2D MaxPool2D AvgPool2D
    BatchNormalization LayerNormalization GroupNormalization UnitNormalization
    RMSNormalization Normalization Rescaling CenterCrop Resizing
    Dropout SpatialDropout2D GaussianNoise GaussianDropout
    Flatten Reshape Permute RepeatVector ZeroPadding2D Cropping2D UpSampling2D
    Add Subtract Multiply Average Maximum Minimum Concatenate Dot
"""
_WITHIN_LAYERS = """
    Zeros Ones Constant IdentityInitializer Orthogonal VarianceScaling
    RandomNormal RandomUniform TruncatedNormal
    GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform
    L1 L2 L1L2 MaxNorm MinMaxNorm NonNeg UnitNorm
    DTypePolicy
"""

#: This project's, registered as `netvlad_keras>Name`.
OURS = frozenset(_OURS.split())
#: Keras's own.
CLASSES = frozenset(f"{_MODELS} {_LAYERS} {_WITHIN_LAYERS}".split())

#: What Keras writes in a class's place for a plain value.
MARKS = frozenset({"__keras_tensor__", "__tuple__"})

#: Where Keras says that its own classes are.
MODULES = frozenset(
    {
        "keras",
        "keras.constraints",
        "keras.initializers",
        "keras.layers",
        "keras.models",
        "keras.regularizers",
        "keras.src.engine.functional",
        "keras.src.engine.sequential",
        "keras.src.models.functional",
        "keras.src.models.sequential",
        "netvlad_keras.elementwise",
        "netvlad_keras.graph",
        "netvlad_keras.layers",
        "netvlad_keras.merging",
        "netvlad_keras.model",
        "netvlad_keras.pooling",
        "netvlad_keras.sampling",
        "netvlad_keras.windows",
    }
)
