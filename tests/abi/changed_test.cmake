# cmake -DABI=<tools/abi> -DLIBRARY=<an agent library with changes> -P changed_test.cmake
# Fails if the check passes that library, or does not name what is other in it.

execute_process(COMMAND ${ABI} --library ${LIBRARY}
  OUTPUT_VARIABLE out ERROR_VARIABLE out RESULT_VARIABLE result)
if(NOT result EQUAL 1)
  message(FATAL_ERROR "the check ends with ${result}, and says:\n${out}")
endif()
foreach(wanted "Agent::SetStep" "AgentOptions" "use_proxy")
  if(NOT out MATCHES "${wanted}")
    message(FATAL_ERROR "the check does not name ${wanted}:\n${out}")
  endif()
endforeach()
