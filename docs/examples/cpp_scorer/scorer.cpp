// Scores a batch with a compiled export.
//
//     scorer EXPORT/compiled.pt2 BATCH SCORES [LIBRARY ...]
//
// BATCH, all little-endian: B, N, F and T as int64; dense (B, N) as float32; values (T,) as int64; lengths (F, B) as
// int64; each in the order of the manifest's inputs, row by row. SCORES: (B, M + P) as float32. Libraries are loaded
// first: int8 tables need those of fbgemm's operators.

#include <dlfcn.h>

#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

namespace {

at::Tensor read_tensor(std::ifstream& file, std::vector<int64_t> shape, at::ScalarType type) {
  at::Tensor tensor = at::empty(shape, type);
  if (!file.read(static_cast<char*>(tensor.data_ptr()), static_cast<std::streamsize>(tensor.nbytes()))) {
    throw std::runtime_error("the batch ends early");
  }
  return tensor;
}

// Dense values, ids, lengths. The compiled model checks neither shapes nor ids below 0.
std::vector<at::Tensor> read_batch(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  int64_t sizes[4];
  if (!file.read(reinterpret_cast<char*>(sizes), sizeof sizes)) {
    throw std::runtime_error(path + ": cannot be read");
  }
  const auto [rows, dense, features, ids] = sizes;
  if (rows < 1 || dense < 0 || features < 1 || ids < 0) {
    throw std::runtime_error(path + ": expected at least one row and one feature");
  }
  std::vector<at::Tensor> batch = {
      read_tensor(file, {rows, dense}, at::kFloat),
      read_tensor(file, {ids}, at::kLong),
      read_tensor(file, {features, rows}, at::kLong),
  };
  if (file.peek() != std::ifstream::traits_type::eof()) {
    throw std::runtime_error(path + ": longer than its sizes say");
  }
  const at::Tensor& lengths = batch[2];
  if (lengths.min().item<int64_t>() < 0 || lengths.sum().item<int64_t>() != ids) {
    throw std::runtime_error(path + ": the lengths do not add up to the number of ids");
  }
  return batch;
}

void score(const std::string& model, const std::string& batch, const std::string& scores) {
  c10::InferenceMode inference;
  torch::inductor::AOTIModelPackageLoader loader(model);
  const at::Tensor probabilities = loader.run(read_batch(batch))[0].contiguous();
  std::ofstream file(scores, std::ios::binary);
  file.write(static_cast<const char*>(probabilities.data_ptr()), static_cast<std::streamsize>(probabilities.nbytes()));
  if (!file.flush()) {
    throw std::runtime_error(scores + ": cannot be written");
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) {
    std::cerr << "usage: scorer EXPORT/compiled.pt2 BATCH SCORES [LIBRARY ...]\n";
    return 2;
  }
  try {
    for (int library = 4; library < count; ++library) {
      if (!dlopen(arguments[library], RTLD_NOW | RTLD_GLOBAL)) {
        throw std::runtime_error(dlerror());
      }
    }
    score(arguments[1], arguments[2], arguments[3]);
  } catch (const std::exception& error) {
    std::cerr << "scorer: " << error.what() << "\n";
    return 1;
  }
}
