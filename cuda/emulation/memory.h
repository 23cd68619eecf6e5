// The emulated device's memory, for runtime.cpp.
#pragma once

#include <cstddef>

namespace gdcore::emulation {

enum class Room : unsigned char { device, pinned };

/// Allocates memory filled with 0xFF; null if out of memory.
void* allocate(Room room, std::size_t bytes);
/// Frees an allocation; false if `data` is not the start of one of that kind.
bool release(Room room, void* data);
/// Whether [data, data + bytes) lies in one allocation of that kind.
bool owns(Room room, const void* data, std::size_t bytes);

std::size_t number_of_environment(const char* name, std::size_t otherwise);
std::size_t total_memory();
std::size_t used_memory();

}  // namespace gdcore::emulation
