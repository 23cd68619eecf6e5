// The emulated device's memory, for runtime.cpp.
#pragma once

#include <cstddef>

namespace gdcore::emulation {

enum class Room : unsigned char { device, pinned };

/// Null where the device has no more; filled with 0xFF.
void* allocate(Room room, std::size_t bytes);
/// False for what is not the start of such an allocation.
bool release(Room room, void* data);
/// Whether [data, data + bytes) lies in one allocation of that kind.
bool owns(Room room, const void* data, std::size_t bytes);

std::size_t total_memory();
std::size_t used_memory();

}  // namespace gdcore::emulation
