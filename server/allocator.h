// How the collector's allocator gets its memory.
//
// Layer: server. POSIX and glibc.

#ifndef GRADTAP_SERVER_ALLOCATOR_H_
#define GRADTAP_SERVER_ALLOCATOR_H_

namespace gradtap::server {

// Steps of megabytes pass through memory that the kernel hands out and takes
// back: in pages of 4 KiB that was a quarter to a third of a collector's CPU
// time on a virtual machine. glibc asks for huge ones if a tunable says so that
// only the environment of a program's start can set: this executes the program
// once more, and returns there; or here, where that is not possible. An
// environment that mentions the tunable is left as it is:
// GLIBC_TUNABLES=glibc.malloc.hugetlb=0 does without. To be called before
// anything that does not outlive it: threads, files, handlers.
void UseHugePages(char** argv);

// In one arena the next step takes the place of the last; in one for each
// thread every one of them keeps some. Before there is another thread.
void ShareMemoryAmongThreads();

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_ALLOCATOR_H_
