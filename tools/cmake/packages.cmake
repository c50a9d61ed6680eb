# What is installed besides programs, libraries and headers, and the Debian
# packages: `cpack -G DEB` in a build folder whose prefix is /usr makes them, and
# tools/package makes such a folder.
#
#   agent      libgradtap-agent<SOVERSION>: the agent's shared library
#   dev        libgradtap-dev: headers, CMake's package, the client's library
#   collector  gradtapd: the collector, its service and its configuration
#   client     gradtap: the command line, and the documents

include(GNUInstallDirs)

# ---- Man pages -------------------------------------------------------------

find_program(HELP2MAN help2man)
if(GRADTAP_BUILD_SERVER AND NOT HELP2MAN)
  message(STATUS "gradtap: no man pages: help2man is missing")
elseif(GRADTAP_BUILD_SERVER)
  set(man_dir ${CMAKE_BINARY_DIR}/man)
  add_custom_command(OUTPUT ${man_dir}/made
    COMMAND ${CMAKE_COMMAND} -E rm -rf ${man_dir}
    COMMAND ${CMAKE_SOURCE_DIR}/tools/man $<TARGET_FILE_DIR:gradtap_program>
      ${man_dir}
    COMMAND ${CMAKE_COMMAND} -E touch ${man_dir}/made
    DEPENDS ${CMAKE_SOURCE_DIR}/tools/man gradtap_program gradtapd
    COMMENT "Making man pages" VERBATIM)
  add_custom_target(gradtap_man ALL DEPENDS ${man_dir}/made)
  install(DIRECTORY ${man_dir}/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1
    COMPONENT collector FILES_MATCHING PATTERN "gradtapd*.1.gz")
  install(DIRECTORY ${man_dir}/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1
    COMPONENT client FILES_MATCHING PATTERN "gradtap.1.gz"
    PATTERN "gradtap-*.1.gz")
endif()

# ---- Documents -------------------------------------------------------------

# docs/, and what it leads to that is for users, the protocol among it, as they
# lie in the sources: links between them hold. What else it leads to are sources.
if(GRADTAP_BUILD_SERVER)
  set(doc_dir ${CMAKE_INSTALL_DATADIR}/doc/gradtap)
  install(DIRECTORY ${CMAKE_SOURCE_DIR}/docs DESTINATION ${doc_dir}
    COMPONENT client)
  install(DIRECTORY ${CMAKE_SOURCE_DIR}/proto/gradtap
    DESTINATION ${doc_dir}/proto
    COMPONENT client FILES_MATCHING PATTERN "*.proto")
  foreach(page README.md CHANGELOG.md SECURITY.md client/README.md
      client/python/README.md server/dashboard/README.md)
    get_filename_component(folder ${page} DIRECTORY)
    install(FILES ${CMAKE_SOURCE_DIR}/${page} DESTINATION ${doc_dir}/${folder}
      COMPONENT client)
  endforeach()
endif()

# ---- Completion, service, configuration ------------------------------------

if(GRADTAP_BUILD_SERVER)
  set(completion ${CMAKE_SOURCE_DIR}/client/completion)
  install(FILES ${completion}/gradtap.bash RENAME gradtap
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
    COMPONENT client)
  # bash looks for a file of the program's own name.
  install(FILES ${completion}/gradtap.bash RENAME gradtapd
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
    COMPONENT collector)
  install(FILES ${completion}/_gradtap
    DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions COMPONENT client)

  # Below /usr the configuration is in /etc, and below another prefix in its own
  # etc; which one it is, `cmake --install --prefix` decides.
  set(systemd ${CMAKE_SOURCE_DIR}/server/systemd)
  install(CODE "
    set(CMAKE_INSTALL_FULL_BINDIR \${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR})
    set(gradtap_etc \${CMAKE_INSTALL_PREFIX}/etc/gradtap)
    set(etc \${CMAKE_INSTALL_PREFIX}/etc)
    if(CMAKE_INSTALL_PREFIX MATCHES \"^(.*)/usr$\")
      set(etc \${CMAKE_MATCH_1}/etc)
      set(CMAKE_INSTALL_FULL_BINDIR /usr/${CMAKE_INSTALL_BINDIR})
      set(gradtap_etc /etc/gradtap)
    endif()
    set(AT @)
    configure_file(${systemd}/gradtapd.service.in
      ${CMAKE_BINARY_DIR}/gradtapd.service @ONLY)
    file(INSTALL ${CMAKE_BINARY_DIR}/gradtapd.service
      DESTINATION \${CMAKE_INSTALL_PREFIX}/lib/systemd/system)
    file(INSTALL ${systemd}/gradtapd.conf DESTINATION \${etc}/gradtap)"
    COMPONENT collector)
endif()

# ---- Debian packages -------------------------------------------------------

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME gradtap)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGE_CONTACT "gradtap developers <gradtap@localhost>")
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL agent dev collector client)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS
  ${CMAKE_BINARY_DIR} ${CMAKE_BINARY_DIR}/agent)
set(CPACK_DEBIAN_ENABLE_COMPONENT_DEPENDS OFF)

# Its own, which `agent` may have raised.
set(soversion ${PROJECT_VERSION_MAJOR})
if(TARGET gradtap_agent)
  get_target_property(soversion gradtap_agent SOVERSION)
endif()
set(CPACK_DEBIAN_AGENT_PACKAGE_NAME libgradtap-agent${soversion})
set(CPACK_DEBIAN_AGENT_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_AGENT_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_AGENT_DESCRIPTION "The agent: the library that a training program links, or loads: it records statistics of
 every parameter at every step and streams them to a collector.")

set(CPACK_DEBIAN_DEV_PACKAGE_NAME libgradtap-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS
  "libgradtap-agent${soversion} (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_DEV_PACKAGE_RECOMMENDS
  "libtorch-dev, libgrpc++-dev, libprotobuf-dev, libabsl-dev, libhwy-dev, libzstd-dev, libre2-dev")
set(CPACK_DEBIAN_DEV_DESCRIPTION "Headers and CMake package of the agent, and the library that asks a collector.")

set(CPACK_DEBIAN_COLLECTOR_PACKAGE_NAME gradtapd)
set(CPACK_DEBIAN_COLLECTOR_PACKAGE_SECTION science)
set(CPACK_DEBIAN_COLLECTOR_PACKAGE_CONTROL_EXTRA
  ${CMAKE_SOURCE_DIR}/server/systemd/postinst
  ${CMAKE_SOURCE_DIR}/server/systemd/prerm
  ${CMAKE_SOURCE_DIR}/server/systemd/postrm
  ${CMAKE_SOURCE_DIR}/server/systemd/conffiles)
set(CPACK_DEBIAN_COLLECTOR_PACKAGE_RECOMMENDS gradtap)
set(CPACK_DEBIAN_COLLECTOR_DESCRIPTION "The collector: stores what agents record and serves it to the command line, to browsers and to
 monitoring tools.")

set(CPACK_DEBIAN_CLIENT_PACKAGE_NAME gradtap)
set(CPACK_DEBIAN_CLIENT_PACKAGE_SECTION science)
set(CPACK_DEBIAN_CLIENT_DESCRIPTION "The command line: asks a collector, and delivers what ended processes have left. With the documents.")

include(CPack)
