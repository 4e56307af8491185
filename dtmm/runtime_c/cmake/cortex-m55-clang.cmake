# Cortex-M55 with clang and the headers of Debian's newlib package.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR cortex-m55)

find_program(DTMM_CLANG NAMES clang clang-20 clang-19 REQUIRED)
set(CMAKE_C_COMPILER ${DTMM_CLANG})
set(CMAKE_C_COMPILER_TARGET arm-none-eabi)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_C_FLAGS_INIT "-mcpu=cortex-m55 -mfloat-abi=hard -isystem /usr/include/newlib")
