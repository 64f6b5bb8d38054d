// Stands for libcuda: does nothing, writes down what it is asked, and fails where it is told to.
//
// A module's image is text: "STUB", then for each kernel ";name" and the bytes of each argument,
// ":8:4". An ELF file is taken too; all names are in it, and its arguments are not looked at.

#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace {

struct Kernel {
  std::string name;
  std::vector<int> sizes;
};

std::map<std::string, int> failures;  // by function: what it returns
int version = 12040;
std::string calls;  // a line each
std::vector<std::string> modules;
std::vector<Kernel*> kernels;  // never freed: their addresses are handles
thread_local size_t current = 0;  // context: a device's number and one

int failure(const char* function) {
  auto found = failures.find(function);
  return found == failures.end() ? 0 : found->second;
}

void note(const std::string& line) { calls += line + "\n"; }

std::string number(unsigned long long value) { return " " + std::to_string(value); }

std::string bytes(const void* from, int count) {
  std::string text;
  char two[3];
  for (int i = 0; i < count; ++i) {
    std::snprintf(two, sizeof two, "%02x", static_cast<const unsigned char*>(from)[i]);
    text += two;
  }
  return text;
}

}  // namespace

extern "C" {

void stub_reset() {
  failures.clear(), calls.clear(), modules.clear();
  version = 12040, current = 0;
}

void stub_fail(const char* function, int status) { failures[function] = status; }
void stub_version(int number) { version = number; }
const char* stub_calls() { return calls.c_str(); }

int cuInit(unsigned) { return failure("cuInit"); }

int cuDriverGetVersion(int* out) {
  *out = version;
  return 0;
}

int cuGetErrorString(int status, const char** out) {
  static const std::map<int, const char*> texts = {
      {2, "out of memory"},
      {100, "no CUDA-capable device is detected"},
      {200, "device kernel image is invalid"},
      {209, "no kernel image is available for execution on the device"},
      {500, "named symbol not found"},
      {700, "an illegal memory access was encountered"},
  };
  auto found = texts.find(status);
  *out = found == texts.end() ? nullptr : found->second;
  return found == texts.end() ? 1 : 0;
}

int cuDeviceGet(int* out, int index) {
  *out = 10 + index;
  return failure("cuDeviceGet");
}

int cuDevicePrimaryCtxRetain(void** out, int device) {
  *out = reinterpret_cast<void*>(static_cast<size_t>(device - 10 + 1));
  note("retain" + number(device - 10));
  return failure("cuDevicePrimaryCtxRetain");
}

int cuCtxGetCurrent(void** out) {
  *out = reinterpret_cast<void*>(current);
  return 0;
}

int cuCtxSetCurrent(void* context) {
  current = reinterpret_cast<size_t>(context);
  note("context" + number(current - 1));
  return failure("cuCtxSetCurrent");
}

int cuModuleLoadData(void** out, const void* image) {
  if (!current) return 201;
  if (int status = failure("cuModuleLoadData")) return status;
  const char* text = static_cast<const char*>(image);
  bool elf = std::memcmp(text, "\x7f" "ELF", 4) == 0;
  if (!elf && std::memcmp(text, "STUB", 4)) return 200;
  modules.push_back(elf ? "ELF" : text);
  *out = reinterpret_cast<void*>(modules.size());
  note("load" + number(current - 1) + " " + modules.back());
  return 0;
}

int cuModuleGetFunction(void** out, void* module, const char* name) {
  const std::string& image = modules.at(reinterpret_cast<size_t>(module) - 1);
  Kernel* kernel = new Kernel{name, {}};
  if (image != "ELF") {
    size_t at = image.find(";" + kernel->name + ":");
    if (at == std::string::npos) return 500;
    for (at += kernel->name.size() + 1; at < image.size() && image[at] == ':';) {
      size_t end = image.find_first_of(":;", at + 1);
      kernel->sizes.push_back(std::stoi(image.substr(at + 1, end - at - 1)));
      at = end;
    }
  }
  kernels.push_back(kernel);
  *out = kernel;
  note("find " + kernel->name);
  return 0;
}

int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                   void* stream, void** arguments, void** extra) {
  if (!current) return 201;
  if (int status = failure("cuLaunchKernel")) return status;
  const Kernel& kernel = *static_cast<Kernel*>(function);
  std::string line = "start " + kernel.name + number(current - 1);
  for (unsigned value : {grid_x, grid_y, grid_z, block_x, block_y, block_z, shared})
    line += number(value);
  line += number(reinterpret_cast<size_t>(stream)) + number(extra != nullptr);
  for (size_t i = 0; i < kernel.sizes.size(); ++i)
    line += " " + bytes(arguments[i], kernel.sizes[i]);
  note(line);
  return 0;
}

}  // extern "C"
