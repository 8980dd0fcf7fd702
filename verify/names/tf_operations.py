"""TensorFlow operations that reach outside a graph: no artifact that has one is run.

Files, Python functions, other machines, and output to files or standard error.
"""

from __future__ import annotations

__all__ = ["CONTROL", "REFUSED", "SAVING"]

_OUTSIDE = """
    PyFunc PyFuncStateless EagerPyFunc
    ReadFile WriteFile MatchingFiles
    WholeFileReader WholeFileReaderV2 TextLineReader TextLineReaderV2
    FixedLengthRecordReader FixedLengthRecordReaderV2 TFRecordReader TFRecordReaderV2
    IdentityReader IdentityReaderV2 LMDBReader
    TextLineDataset TFRecordDataset TFRecordDatasetV2 FixedLengthRecordDataset
    FixedLengthRecordDatasetV2 SqlDataset LMDBDataset GeneratorDataset MatchingFilesDataset
    SnapshotDataset SnapshotDatasetV2 CacheDataset CacheDatasetV2 SaveDataset SaveDatasetV2
    LoadDataset DistributedSave ImmutableConst
    InitializeTableFromTextFile InitializeTableFromTextFileV2 LoadAndRemapMatrix
    GenerateVocabRemapping
    Print PrintV2 DebugIdentity DebugIdentityV2 DebugIdentityV3
    CreateSummaryFileWriter CreateSummaryDbWriter SummaryWriter WriteGraphSummary
    RemoteCall RpcCall RpcClient RpcServer Send Recv _Send _Recv _HostSend _HostRecv
    DataServiceDataset DataServiceDatasetV2 DataServiceDatasetV3 DataServiceDatasetV4
    CollectiveReduce CollectiveGather CollectiveBcastSend CollectiveBcastRecv
"""
REFUSED = frozenset(_OUTSIDE.split())

#: What a checkpoint is read and written with: there in every SavedModel, never in a layer.
SAVING = frozenset(
    {"Save", "SaveV2", "SaveSlices", "Restore", "RestoreV2", "RestoreSlice", "MergeV2Checkpoints"}
)

#: TensorFlow 1's branches and loops.
CONTROL = frozenset({"Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch"})
