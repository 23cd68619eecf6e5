// Recorded steps: one CUDA graph, and the scratch memory that its kernels use.
#include <memory>
#include <stdexcept>

#include "backend/cuda_backend.h"
#include "backend/thread_stream.h"
#include "gdcore/check.h"

namespace gdcore::cuda {

namespace {

class Graph final : public StepGraph {
 public:
  Graph() { check_cuda(cudaEventCreateWithFlags(&ended_, cudaEventDisableTiming), "cudaEventCreateWithFlags"); }

  ~Graph() override {
    if (is_forked()) return;
    (void)cudaEventSynchronize(ended_);  // the graph's kernels use the scratch memory
    if (executable_ != nullptr) (void)cudaGraphExecDestroy(executable_);
    (void)cudaEventDestroy(ended_);
    try {
      scratch_.free_all(thread_stream().stream);
    } catch (...) {  // the device is lost, and its memory too
    }
  }

  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void record(FunctionRef<void()> steps);
  void launch() override;

 private:
  cudaGraphExec_t executable_ = nullptr;
  cudaEvent_t ended_ = nullptr;  // end of the last launch
  ScratchBlocks scratch_;
};

/// Records the calling thread's work on the device into a graph for its lifetime.
class Capture {
 public:
  explicit Capture(ScratchBlocks& scratch) : own_(thread_stream()), recording_{stream_->stream, &scratch} {
    check<std::logic_error>(own_.recording == nullptr, "[cuda] steps are already being recorded");
    check_cuda(cudaStreamBeginCapture(stream_->stream, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
    own_.recording = &recording_;
  }

  ~Capture() {
    if (own_.recording != &recording_) return;
    own_.recording = nullptr;
    cudaGraph_t unfinished = nullptr;
    (void)cudaStreamEndCapture(stream_->stream, &unfinished);
    if (unfinished != nullptr) (void)cudaGraphDestroy(unfinished);
    (void)cudaGetLastError();
  }

  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  cudaGraph_t end() {
    own_.recording = nullptr;
    cudaGraph_t graph = nullptr;
    check_cuda(cudaStreamEndCapture(stream_->stream, &graph), "cudaStreamEndCapture");
    return graph;
  }

 private:
  ThreadStream& own_;
  OwnedStream stream_ =
      take_stream(Purpose::recording);  // not the thread's own stream: other streams may wait for that one
  Recording recording_;
};

void Graph::record(FunctionRef<void()> steps) {
  Capture capture(scratch_);
  steps();
  const cudaGraph_t graph = capture.end();
  const cudaError_t error = cudaGraphInstantiate(&executable_, graph, 0);
  (void)cudaGraphDestroy(graph);
  check_cuda(error, "cudaGraphInstantiate");
}

void Graph::launch() {
  ThreadStream& own = thread_stream();
  check<std::logic_error>(own.recording == nullptr,
                          "[cuda] recorded steps cannot be launched while others are recorded");
  check_cuda(cudaGraphLaunch(executable_, own.stream), "cudaGraphLaunch");
  check_cuda(cudaEventRecord(ended_, own.stream), "cudaEventRecord");
  check_cuda(cudaEventRecord(own.launched[own.launches % 2], own.stream), "cudaEventRecord");
  ++own.launches;
  // At most two graphs are in flight: the device stays busy, the host does not run far ahead. (An event that was never
  // recorded counts as complete.)
  check_cuda(cudaEventSynchronize(own.launched[own.launches % 2]), "cudaEventSynchronize");
}

}  // namespace

std::unique_ptr<StepGraph> CudaBackend::record(FunctionRef<void()> steps) {
  auto graph = std::make_unique<Graph>();
  graph->record(steps);
  return graph;
}

}  // namespace gdcore::cuda
