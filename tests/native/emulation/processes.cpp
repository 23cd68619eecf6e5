#include "processes.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <stdexcept>

namespace gdcore::emulation_tests {

namespace {

struct Ended {
  int status;  // as returned by waitpid
  std::string text;
};

/// Runs `work` in its own process and returns what it writes to `from`.
Ended run_apart(int from, const std::function<void()>& work) {
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error("no pipe");
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], from);
    close(ends[0]);
    close(ends[1]);
    work();
    _exit(0);
  }
  close(ends[1]);
  Ended ended{};
  char part[4096];
  for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;) ended.text.append(part, static_cast<std::size_t>(n));
  close(ends[0]);
  waitpid(child, &ended.status, 0);
  return ended;
}

}  // namespace

std::string crash_of(const std::function<void()>& work) {
  const auto& [status, text] = run_apart(STDERR_FILENO, [&] {
    std::signal(SIGSEGV, SIG_DFL);  // replaces doctest's handler
    work();
  });
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status)) + "\n" + text : text;
}

int run_alone(const char* name, const char* variable, const std::string& value) {
  std::string filter = "--test-case=";
  for (const char* c = name; *c != '\0'; ++c) filter += *c == ',' ? "\\," : std::string(1, *c);
  const auto& [status, text] = run_apart(STDOUT_FILENO, [&] {
    setenv(variable, value.c_str(), 1);
    execl("/proc/self/exe", "tests", filter.c_str(), "--no-skip", static_cast<char*>(nullptr));
    _exit(127);
  });
  const int exit = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  const std::string count = "test cases:";
  const auto at = text.find(count);
  const bool none = exit == 0 && (at == std::string::npos || std::stoi(text.substr(at + count.size())) != 1);
  if (exit != 0 || none) std::cout << text;
  return none ? kNoTest : exit;
}

}  // namespace gdcore::emulation_tests
