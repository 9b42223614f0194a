# install.cmake - what an installed attnc offers: find_package(attnc) with attn::runtime, and pkg-config's attn.pc. Both are relocatable.
include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/attnc)

install(EXPORT attn-targets NAMESPACE attn:: DESTINATION ${package} FILE attnc-targets.cmake)
configure_package_config_file(cmake/attnc-config.cmake.in attnc-config.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(attnc-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/attnc-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/attnc-config-version.cmake DESTINATION ${package})

file(RELATIVE_PATH ATTN_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" ATTN_PC_PREFIX "${ATTN_PC_PREFIX}")
configure_file(cmake/attn.pc.in attn.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/attn.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
